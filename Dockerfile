# How to build and run it, and what of it was tried without Docker: docs/install.md.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS wheel
WORKDIR /src
COPY CMakeLists.txt LICENSE README.md constraints.txt pyproject.toml ./
COPY convcut_trt convcut_trt
RUN pip wheel --no-cache-dir --no-deps --wheel-dir dist .

FROM python:${PYTHON}-slim
ARG EXTRAS=ort,faces
WORKDIR /opt/convcut-trt
COPY --from=wheel /src/dist /src/constraints.txt ./
RUN pip install --no-cache-dir --constraint constraints.txt "$(echo ./*.whl)[$EXTRAS]"
# Engines outlive the container, in a volume that is the user's. Group video may open cameras.
RUN useradd --create-home --groups video convcut && install -d -o convcut -g convcut /engines
USER convcut
WORKDIR /home/convcut
ENV CONVCUT_HOME=/engines
VOLUME /engines
ENTRYPOINT ["convcut-trt"]
CMD ["--help"]
