# The locked environment as a container; the checks of this project do not build it.
#
#   docker build -t fusechat-lab .                                    for a CPU, with vLLM
#   docker build -t fusechat-lab --build-arg DEVICE=gpu .             for NVIDIA GPUs
#   docker build -t fusechat-lab --build-arg DEVICE=demo .            the demo alone
#   docker run --rm -v "$PWD:/work" fusechat-lab ablations experiment=pocket
#
# What a run reads and writes lies in /work, the folder it is started in: conf/, data/, artifacts/, reports/.
FROM python:3.11-slim-bookworm

# libnuma1 is loaded by vLLM on a CPU; a compiler serves what triton builds on a GPU.
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc g++ libnuma1 make \
 && rm -rf /var/lib/apt/lists/*

ARG DEVICE=cpu
ENV FUSECHAT_LAB_DEVICE=$DEVICE
WORKDIR /opt/fusechat-lab
COPY . .
RUN make setup

RUN useradd --create-home --uid 1000 lab && mkdir /work && chown lab /work
USER lab
ENV PATH=/opt/fusechat-lab/.venv/bin:$PATH
WORKDIR /work
ENTRYPOINT ["fusechat-lab"]
CMD ["--help"]
