# The plugin without a vendor's PKCS#11 library: mount that from the node, as deploy/static-pod/ does.
# Based on Debian, since such libraries are built for glibc.
# The npm packages include the Node.js that is tested; the image of the first stage only installs and builds.
FROM node:24-bookworm AS build
WORKDIR /app
# Compiling pkcs11js needs python3, g++ and make, which this image has, and Node's headers under /usr/local/include/node.
ENV npm_config_nodedir=/usr/local
COPY package.json package-lock.json ./
RUN npm ci --no-audit --no-fund && test -e node_modules/pkcs11js/build/Release/pkcs11.node && node_modules/.bin/node --version
COPY tsconfig.json tsconfig.build.json ./
COPY src src
COPY scripts/compile-cache.js scripts/
RUN npm run build && npm prune --omit=dev --no-audit --no-fund \
 && find node_modules/pkcs11js/build -type f ! -path '*/build/Release/pkcs11.node' -delete
# Of the package with Node.js, only the program and its licence are needed.
RUN mkdir /node && mv node_modules/node-linux-*/bin/node node_modules/node-linux-*/LICENSE /node/ \
 && rm -r node_modules/node-linux-* node_modules/.bin/node

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="kubernetes-kms-pkcs11" \
      org.opencontainers.image.description="Kubernetes KMS v2 plugin whose key encryption key never leaves a PKCS#11 HSM" \
      org.opencontainers.image.licenses="Apache-2.0"
# The init (PID 1) reaps processes that a vendor's library leaves behind; Node.js reaps only its own children.
RUN apt-get update && apt-get install --yes --no-install-recommends tini && rm -rf /var/lib/apt/lists/*
COPY --from=build /node/node /usr/local/bin/node
COPY --from=build /node/LICENSE /usr/local/share/doc/node/LICENSE
ENV NODE_ENV=production
# If a user can execute a program but not read it, the kernel neither dumps its process nor lets that user trace it.
RUN chmod 0711 /usr/local/bin/node
# For operators who run commands in the container.
RUN ln -s /app/dist/main.js /usr/local/bin/kms-pkcs11
WORKDIR /app
COPY package.json LICENSE ./
COPY proto proto
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
# Numeric, so that kubelet can check runAsNonRoot. In deploy/ the same id owns the socket's folder and the PIN.
USER 10001:10001
# There is no HEALTHCHECK, since kubelet probes /livez.
# -s: tini also reaps if it is not PID 1, because the pod shares its process namespace. It forwards signals.
ENTRYPOINT ["/usr/bin/tini", "-s", "--", "node", "/app/dist/main.js"]
CMD ["serve", "--config", "/etc/kms-pkcs11/config.yaml"]
