/* File operations of a process below one folder: counted, and one of them fatal or failing.

   Loaded with LD_PRELOAD, it stands in front of the C library's calls that change a file or a folder, and does
   nothing until fault_arm. An operation is counted before it happens. At the chosen one the process is killed, in the
   middle of the data where it is a write; or that one fails (FAULT_ONE), or it and all later ones that need what is
   gone by then (FAULT_FROM): the space, or the permission to write.

   What glibc calls inside itself does not come by here: of fopen the opening is seen, of fwrite nothing. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FAULT_KILL, FAULT_ONE, FAULT_FROM };
/* What an operation needs: space on the disk, permission to change a folder, or neither. */
enum { NOTHING = 0, SPACE = 1, PERMISSION = 2 };

static char root[PATH_MAX];
static size_t root_length;
static int record = -1, kind, error_number;
static long chosen;
static atomic_long count;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

/* Begins to count. folder: absolute and resolved; path: what is done is written here, outside of the folder;
   number: of the operation that is hit, from 1, 0 for none; error: what it fails with. */
void fault_arm(const char *folder, const char *path, long number, int how, int error) {
  snprintf(root, sizeof root, "%s/", folder);
  root_length = strlen(root);
  record = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  chosen = number;
  kind = how;
  error_number = error;
  atomic_store(&count, 0);
}

static int below(const char *path) {
  return record >= 0 && strncmp(path, root, root_length) == 0;
}

static void of_descriptor(int descriptor, char *path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t length = record < 0 ? -1 : readlink(link, path, PATH_MAX - 1);
  path[length < 0 ? 0 : length] = 0;
}

static void absolute(int folder, const char *name, char *path) {
  if (name[0] == '/' || record < 0) {
    snprintf(path, PATH_MAX, "%s", name);
    return;
  }
  char start[PATH_MAX] = "";
  if (folder == AT_FDCWD) {
    if (!getcwd(start, sizeof start)) start[0] = 0;
  } else {
    of_descriptor(folder, start);
  }
  if (snprintf(path, PATH_MAX, "%s/%s", start, name) >= PATH_MAX) path[0] = 0;
}

/* Counts an operation. Returns whether it fails; half is set where the process dies in the middle of it. */
static int hit(const char *name, const char *path, int needs, int *half) {
  if (!below(path)) return 0;
  long number = atomic_fetch_add(&count, 1) + 1;
  char line[PATH_MAX + 64];
  int length = snprintf(line, sizeof line, "%s %s\n", name, path + root_length);
  syscall(SYS_write, record, line, (size_t)length);
  if (!chosen || number < chosen) return 0;
  if (kind == FAULT_KILL) {
    if (half) {
      *half = 1;
      return 0;
    }
    kill(getpid(), SIGKILL);
  }
  int gone = error_number == ENOSPC ? SPACE : PERMISSION;
  if (kind == FAULT_ONE ? number > chosen : !(needs & gone)) return 0;
  errno = error_number;
  return 1;
}

static int hit_path(const char *name, int folder, const char *file, int needs) {
  int before = errno;
  char path[PATH_MAX];
  absolute(folder, file, path);
  int fails = hit(name, path, needs, NULL);
  if (!fails) errno = before;
  return fails;
}

static int hit_descriptor(const char *name, int descriptor, int needs, int *half) {
  int before = errno;
  char path[PATH_MAX];
  of_descriptor(descriptor, path);
  int fails = hit(name, path, needs, half);
  if (!fails) errno = before;
  return fails;
}

static int writes(int flags) {
  return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC));
}

#define OPEN(name, call)                                                                                         \
  {                                                                                                              \
    mode_t mode = 0;                                                                                             \
    if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) {                                                                         \
      va_list rest;                                                                                              \
      va_start(rest, flags);                                                                                     \
      mode = va_arg(rest, mode_t);                                                                               \
      va_end(rest);                                                                                              \
    }                                                                                                            \
    if (writes(flags) && hit_path("open", folder, path, (flags & O_CREAT ? SPACE : 0) | PERMISSION)) return -1;  \
    return REAL(name) call;                                                                                      \
  }

int open(const char *path, int flags, ...) {
  const int folder = AT_FDCWD;
  OPEN(open, (path, flags, mode))
}
int open64(const char *path, int flags, ...) {
  const int folder = AT_FDCWD;
  OPEN(open64, (path, flags, mode))
}
int openat(int folder, const char *path, int flags, ...) OPEN(openat, (folder, path, flags, mode))
int openat64(int folder, const char *path, int flags, ...) OPEN(openat64, (folder, path, flags, mode))

FILE *fopen(const char *path, const char *mode) {
  if (mode[0] != 'r' && hit_path("open", AT_FDCWD, path, SPACE | PERMISSION)) return NULL;
  return REAL(fopen)(path, mode);
}
FILE *fopen64(const char *path, const char *mode) {
  if (mode[0] != 'r' && hit_path("open", AT_FDCWD, path, SPACE | PERMISSION)) return NULL;
  return REAL(fopen64)(path, mode);
}

/* Half of the data is written, then the process dies. */
static void die_writing(int descriptor, const void *data, size_t size) {
  syscall(SYS_write, descriptor, data, size / 2);
  kill(getpid(), SIGKILL);
}

ssize_t write(int descriptor, const void *data, size_t size) {
  int half = 0;
  if (hit_descriptor("write", descriptor, SPACE, &half)) return -1;
  if (half) die_writing(descriptor, data, size);
  return REAL(write)(descriptor, data, size);
}

ssize_t writev(int descriptor, const struct iovec *parts, int number) {
  int half = 0;
  if (hit_descriptor("write", descriptor, SPACE, &half)) return -1;
  if (half) die_writing(descriptor, parts[0].iov_base, parts[0].iov_len);
  return REAL(writev)(descriptor, parts, number);
}

ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t offset) {
  if (hit_descriptor("write", descriptor, SPACE, NULL)) return -1;
  return REAL(pwrite64)(descriptor, data, size, offset);
}

ssize_t sendfile64(int target, int source, off64_t *offset, size_t size) {
  if (hit_descriptor("write", target, SPACE, NULL)) return -1;
  return REAL(sendfile64)(target, source, offset, size);
}

int ftruncate64(int descriptor, off64_t size) {
  if (hit_descriptor("truncate", descriptor, SPACE, NULL)) return -1;
  return REAL(ftruncate64)(descriptor, size);
}

int fsync(int descriptor) {
  if (hit_descriptor("fsync", descriptor, SPACE, NULL)) return -1;
  return REAL(fsync)(descriptor);
}

int fdatasync(int descriptor) {
  if (hit_descriptor("fsync", descriptor, SPACE, NULL)) return -1;
  return REAL(fdatasync)(descriptor);
}

int close(int descriptor) {
  int flags = record < 0 ? 0 : fcntl(descriptor, F_GETFL);
  if (flags > 0 && (flags & O_ACCMODE) != O_RDONLY && hit_descriptor("close", descriptor, NOTHING, NULL)) {
    REAL(close)(descriptor); /* it is closed all the same, as on Linux */
    errno = error_number;
    return -1;
  }
  return REAL(close)(descriptor);
}

int rename(const char *from, const char *to) {
  if (hit_path("rename", AT_FDCWD, to, PERMISSION)) return -1;
  return REAL(rename)(from, to);
}
int renameat(int from_folder, const char *from, int to_folder, const char *to) {
  if (hit_path("rename", to_folder, to, PERMISSION)) return -1;
  return REAL(renameat)(from_folder, from, to_folder, to);
}

int unlink(const char *path) {
  if (hit_path("unlink", AT_FDCWD, path, PERMISSION)) return -1;
  return REAL(unlink)(path);
}
int unlinkat(int folder, const char *path, int flags) {
  if (hit_path(flags & AT_REMOVEDIR ? "rmdir" : "unlink", folder, path, PERMISSION)) return -1;
  return REAL(unlinkat)(folder, path, flags);
}
int rmdir(const char *path) {
  if (hit_path("rmdir", AT_FDCWD, path, PERMISSION)) return -1;
  return REAL(rmdir)(path);
}

int mkdir(const char *path, mode_t mode) {
  if (hit_path("mkdir", AT_FDCWD, path, SPACE | PERMISSION)) return -1;
  return REAL(mkdir)(path, mode);
}
int mkdirat(int folder, const char *path, mode_t mode) {
  if (hit_path("mkdir", folder, path, SPACE | PERMISSION)) return -1;
  return REAL(mkdirat)(folder, path, mode);
}

int link(const char *from, const char *to) {
  if (hit_path("link", AT_FDCWD, to, SPACE | PERMISSION)) return -1;
  return REAL(link)(from, to);
}
int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
  if (hit_path("link", to_folder, to, SPACE | PERMISSION)) return -1;
  return REAL(linkat)(from_folder, from, to_folder, to, flags);
}
int symlink(const char *from, const char *to) {
  if (hit_path("link", AT_FDCWD, to, SPACE | PERMISSION)) return -1;
  return REAL(symlink)(from, to);
}

int chmod(const char *path, mode_t mode) {
  if (hit_path("chmod", AT_FDCWD, path, PERMISSION)) return -1;
  return REAL(chmod)(path, mode);
}
int fchmod(int descriptor, mode_t mode) {
  if (hit_descriptor("chmod", descriptor, PERMISSION, NULL)) return -1;
  return REAL(fchmod)(descriptor, mode);
}
