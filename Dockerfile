# The plugin without a vendor's PKCS#11 library: mount that from the node, as deploy/static-pod/ does.
# Based on Debian, since such libraries are built for glibc.
# The npm packages include the Node.js that is tested; the image of the first stage only installs and builds.
# scripts/image gives both bases by digest, from deploy/package/base-images, and builds the same image byte for byte.
ARG BUILD_IMAGE=docker.io/library/node:24-bookworm
ARG BASE_IMAGE=docker.io/library/debian:bookworm-slim

FROM ${BUILD_IMAGE} AS build
# The init (PID 1) reaps processes that a vendor's library leaves behind; Node.js reaps only its own children.
RUN apt-get update && apt-get install --yes --no-install-recommends tini
WORKDIR /app
# Compiling pkcs11js needs python3, g++ and make, which this image has, and Node's headers under /usr/local/include/node.
ENV npm_config_nodedir=/usr/local
COPY package.json package-lock.json ./
RUN npm ci --no-audit --no-fund && test -e node_modules/pkcs11js/build/Release/pkcs11.node && node_modules/.bin/node --version
COPY tsconfig.json tsconfig.build.json ./
COPY proto proto
COPY src src
COPY scripts/join-commands.js scripts/module-imports.js scripts/compile-cache.js scripts/strip-packages scripts/
RUN npm run build && npm prune --omit=dev --no-audit --no-fund && scripts/strip-packages node_modules && scripts/strip-packages dist
# Of the packages with Node.js and the init, only the program and its licence are needed. Everything gets its mode here, since
# a change in a later layer would store the file again. If a user can execute a program but not read it, the kernel neither
# dumps its process nor lets that user trace it.
# Without its symbols, which only debuggers read, the program is 18 MB smaller.
RUN mkdir -p /programs/usr/local/bin /programs/usr/local/share/doc/node /programs/usr/bin /programs/usr/share/doc/tini \
 && install --strip -m 0711 node_modules/node-linux-*/bin/node /programs/usr/local/bin/node \
 && install -m 0644 node_modules/node-linux-*/LICENSE /programs/usr/local/share/doc/node/LICENSE \
 && install -m 0755 /usr/bin/tini /programs/usr/bin/tini \
 && install -m 0644 /usr/share/doc/tini/copyright /programs/usr/share/doc/tini/copyright \
 && ln -s /app/dist/main.js /programs/usr/local/bin/kms-pkcs11 \
 && rm -r node_modules/node-linux-* node_modules/.bin/node node_modules/.package-lock.json
# The templates of `kms-pkcs11 init`.
COPY deploy /program/app/deploy
COPY LICENSE /program/app/
RUN mv package.json node_modules proto dist /program/app/ && chmod -R u=rwX,go=rX /program

FROM ${BASE_IMAGE}
# The commit. Another one makes the layers of this stage again: from a cache, they would have an earlier commit's time.
ARG REVISION
LABEL org.opencontainers.image.revision="${REVISION}"
LABEL org.opencontainers.image.title="kubernetes-kms-pkcs11" \
      org.opencontainers.image.description="Kubernetes KMS v2 plugin whose key encryption key never leaves a PKCS#11 HSM" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV NODE_ENV=production
# Nothing is run in this stage, since programs leave logs and caches. The first layer changes only with Node.js.
COPY --from=build /programs/ /
COPY --from=build /program/ /
WORKDIR /app
# Numeric, so that kubelet can check runAsNonRoot. In deploy/ the same id owns the socket's folder and the PIN.
USER 10001:10001
# There is no HEALTHCHECK, since kubelet probes /livez.
# -s: tini also reaps if it is not PID 1, because the pod shares its process namespace. It forwards signals.
ENTRYPOINT ["/usr/bin/tini", "-s", "--", "node", "/app/dist/main.js"]
CMD ["serve", "--config", "/etc/kms-pkcs11/config.yaml"]
