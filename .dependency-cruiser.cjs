// The layers of src/README.md, checked. Each folder lists what it may import; everything else is an error, type
// imports and tests' fixtures included.

/** A folder or file of src/ -> those of src/ that it may import, apart from itself. */
const LAYERS = {
  "main\\.ts": ["cli/", "engine\\.ts", "hardening\\.ts", "unused-memory\\.ts", "file-limit\\.ts"],
  "cli/": [
    "drill/",
    "admin/",
    "evidence/",
    "init/",
    "custody/",
    "compose/",
    "server/",
    "conformance/",
    "etcd/",
    "bench/",
    "kms-client/",
    "config/",
    "audit/",
    "approvals/",
    "observability/",
    "page/",
    "provider/",
    "hsm/",
    "files/",
    "untrusted-text\\.ts",
    "log\\.ts",
    "errors\\.ts",
    "file-limit\\.ts",
    "version\\.ts",
  ],
  // An optional feature: only its command imports it.
  "drill/": [
    "admin/",
    "evidence/",
    "compose/",
    "etcd/",
    "kms-client/",
    "config/",
    "hsm/",
    "files/",
    "untrusted-text\\.ts",
    "errors\\.ts",
    "version\\.ts",
  ],
  "admin/": [
    "compose/",
    "etcd/",
    "config/",
    "audit/",
    "approvals/",
    "provider/",
    "hsm/",
    "files/",
    "untrusted-text\\.ts",
    "log\\.ts",
    "errors\\.ts",
    "version\\.ts",
  ],
  "init/": ["config/", "files/", "errors\\.ts", "version\\.ts"],
  "compose/": [
    "server/",
    "custody/",
    "config/",
    "audit/",
    "approvals/",
    "observability/",
    "page/",
    "working-set/",
    "provider/",
    "hsm/",
    "files/",
    "unused-memory\\.ts",
    "untrusted-text\\.ts",
    "log\\.ts",
    "errors\\.ts",
    "version\\.ts",
  ],
  // An optional feature: only its commands import it.
  "evidence/": ["page/", "etcd/", "audit/", "files/", "untrusted-text\\.ts", "errors\\.ts", "version\\.ts"],
  // An optional feature: nothing else imports it.
  "page/": ["etcd/", "untrusted-text\\.ts"],
  "server/": [
    "provider/",
    "hsm/",
    "files/",
    "grpc-log\\.ts",
    "untrusted-text\\.ts",
    "log\\.ts",
    "errors\\.ts",
  ],
  // It judges any plugin, and knows nothing of this one.
  "conformance/": [],
  "etcd/": ["provider/", "hsm/", "files/", "grpc-log\\.ts", "untrusted-text\\.ts", "log\\.ts", "errors\\.ts"],
  "bench/": ["hsm/", "aead\\.ts"],
  "kms-client/": ["grpc-log\\.ts", "untrusted-text\\.ts", "errors\\.ts"],
  "config/": ["hsm/", "files/", "untrusted-text\\.ts", "errors\\.ts"],
  "audit/": ["files/", "backoff\\.ts", "untrusted-text\\.ts", "log\\.ts", "errors\\.ts"],
  // Without a policy in the configuration, nothing of it is loaded.
  "approvals/": ["files/", "untrusted-text\\.ts", "log\\.ts", "errors\\.ts"],
  "observability/": ["working-set/", "hsm/", "untrusted-text\\.ts", "log\\.ts", "errors\\.ts"],
  "working-set/": ["provider/", "hsm/", "files/", "backoff\\.ts", "log\\.ts", "errors\\.ts"],
  "provider/": ["hsm/", "files/", "aead\\.ts", "untrusted-text\\.ts", "log\\.ts", "errors\\.ts"],
  "hsm/": ["files/", "backoff\\.ts", "untrusted-text\\.ts", "log\\.ts", "errors\\.ts"],
  // The token host is another program: it shares the wire format and the tables that the format speaks of.
  "token-host/": [
    "hsm/(wire[^/]*|port|fault|mechanisms|key-id)\\.ts",
    "hardening\\.ts",
    "unused-memory\\.ts",
    "untrusted-text\\.ts",
    "log\\.ts",
    "errors\\.ts",
  ],
  "custody/": ["files/", "aead\\.ts", "untrusted-text\\.ts", "errors\\.ts"],
  "files/": ["errors\\.ts"],
  "grpc-log\\.ts": [],
  "untrusted-text\\.ts": [],
  "aead\\.ts": [],
  "backoff\\.ts": [],
  "engine\\.ts": [],
  "unused-memory\\.ts": [],
  "hardening\\.ts": [],
  "log\\.ts": [],
  "errors\\.ts": ["file-limit\\.ts"],
  "file-limit\\.ts": [],
  "version\\.ts": [],
};

const any = (paths) => `^src/(${paths.join("|")})`;

const layerRules = Object.entries(LAYERS).map(([layer, below]) => ({
  name: `layer: ${layer.replace("\\", "")}`,
  severity: "error",
  comment: `may import ${below.map((path) => path.replaceAll("\\", "")).join(", ") || "nothing of src/"}`,
  from: { path: any([layer]) },
  to: { path: "^src/", pathNot: any([layer, ...below]) },
}));

/** Packages -> the only places that may import them. */
const confined = (name, packages, places) => ({
  name,
  severity: "error",
  from: { path: "^src/", pathNot: any(places) },
  to: { path: `node_modules/(${packages.join("|")})(/|$)` },
});

module.exports = {
  forbidden: [
    ...layerRules,
    {
      name: "a place in the layers",
      comment: "a new file at the top of src/, or a new folder, needs its line in LAYERS",
      severity: "error",
      from: { path: "^src/", pathNot: any(Object.keys(LAYERS)) },
      to: {},
    },
    confined("pkcs11js only in the token host", ["pkcs11js"], ["token-host/"]),
    confined("gRPC only at the edges", ["@grpc"], ["server/", "grpc-log\\.ts", "kms-client/", "etcd/"]),
    confined("HTTP metrics only in observability", ["prom-client"], ["observability/"]),
    confined(
      "the Kubernetes client only where it is loaded when needed",
      ["@kubernetes"],
      ["etcd/kube-connections\\.ts"],
    ),
    confined("tracing only in observability", ["@opentelemetry"], ["observability/"]),
    confined("Shamir's scheme and QR codes only in custody", ["shamir-secret-sharing", "uqr"], ["custody/"]),
    confined("one logger", ["pino"], ["observability/"]),
    confined("command-line packages only in cli", ["commander", "cli-table3"], ["main\\.ts", "cli/"]),
    {
      name: "src without tests",
      severity: "error",
      from: { path: "^src/" },
      to: { path: "^test/" },
    },
    {
      name: "no cycles",
      severity: "error",
      from: {},
      to: { circular: true },
    },
    {
      name: "no orphans",
      severity: "error",
      from: {
        orphan: true,
        // Entry points, found by path rather than by import.
        pathNot: [
          "\\.test\\.ts$",
          "^src/(main|token-host/(main|lane-thread)|drill/listing-main)\\.ts$",
          "(^|/)vitest\\.config\\.ts$",
          "^test/setup/",
          // Types of a package that has none.
          "\\.d\\.ts$",
        ],
      },
      to: {},
    },
    {
      name: "packages that are declared",
      severity: "error",
      from: { path: "^src/" },
      to: { dependencyTypes: ["npm-dev", "npm-no-pkg", "npm-unknown"] },
    },
    {
      name: "imports that resolve",
      severity: "error",
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    exclude: { path: "(^|/)node_modules/.*/node_modules/" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["import", "require", "node", "default", "types"],
      mainFields: ["main", "types"],
    },
  },
};
