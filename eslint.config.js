// typescript-eslint's strictest set, and this project's own rules that a linter can check: names, files, exports, phrases.

import eslint from "@eslint/js";
import { defineConfig, globalIgnores } from "eslint/config";
import tseslint from "typescript-eslint";
import { plainPhrases } from "./test/setup/phrase-rules.js";
import { testTitles } from "./test/setup/test-title-rules.js";

/** Names that mean two things here, or the wrong one: what they are called instead. */
const NAMES = [
  ["master_?key", "the key in the HSM is the KEK"],
  ["blob|payload", "our ciphertext bytes are the envelope; what they protect is the plaintext"],
  [
    "(^|_)dek(?!_?[sS]eed|_?[sS]ource)|D(ek|EK)(?!_?S(eed|EED|ource))",
    "a DEK seed is dekSeed, and the key in the HSM is the KEK",
  ],
  ["(old|current|primary)_?ke[ky]", "a KEK is standby, active or retired"],
].map(([name, message]) => ({
  selector: `Identifier[name=/${name}/${/[A-Z]/.test(name) ? "" : "i"}]`,
  message,
}));

const NO_DEFAULT_EXPORT = {
  selector: "ExportDefaultDeclaration",
  message: "export it by its name, so that it has the same name everywhere",
};

const PKCS11_NAMES = {
  selector: "Identifier[name=/^(C_[A-Z]|CK[A-Z]_)/]",
  message: "PKCS#11's own names stay under token-host/",
};

export default defineConfig(
  globalIgnores(["dist/", "build/", "coverage/", ".dev/", "node_modules/"]),
  eslint.configs.recommended,
  {
    files: ["**/*.ts"],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      "@typescript-eslint/consistent-type-imports": ["error", { fixStyle: "inline-type-imports" }],
      "@typescript-eslint/no-floating-promises": "error",
      "@typescript-eslint/switch-exhaustiveness-check": [
        "error",
        { considerDefaultExhaustiveForUnions: true },
      ],
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
    },
  },
  {
    files: ["**/*.{js,mjs,cjs}"],
    languageOptions: {
      globals: {
        process: "readonly",
        console: "readonly",
        Buffer: "readonly",
        module: "writable",
        URL: "readonly",
      },
    },
  },
  {
    rules: {
      eqeqeq: "error",
      curly: ["error", "multi-line"],
      "max-lines": ["warn", 300],
      "no-restricted-syntax": ["error", ...NAMES, NO_DEFAULT_EXPORT],
    },
  },
  {
    files: ["{src,test}/**/*.{ts,mjs}", "scripts/*.js"],
    plugins: { language: plainPhrases },
    rules: { "language/plain-phrases": "error" },
  },
  {
    files: ["src/**/*.ts"],
    ignores: ["src/token-host/**"],
    rules: { "no-restricted-syntax": ["error", ...NAMES, NO_DEFAULT_EXPORT, PKCS11_NAMES] },
  },
  {
    files: ["src/{audit,compose,config,hsm,observability,provider,server,token-host,working-set}/**/*.ts"],
    rules: {
      "no-restricted-properties": [
        "error",
        ...["toLocaleString", "toLocaleDateString", "toLocaleTimeString", "localeCompare"].map(
          (property) => ({
            property,
            message: "loads ICU into the plugin, which takes 20 ms of processor time",
          }),
        ),
        { object: "Intl", message: "loads ICU into the plugin, which takes 20 ms of processor time" },
      ],
    },
  },
  {
    files: ["test/**/*.{test,soak,scale,bench}.ts"],
    plugins: { "test-titles": testTitles },
    rules: { "test-titles/short": "error", "test-titles/unique": "error" },
  },
  {
    // A tool asks for these default exports.
    files: ["**/*.config.{js,ts}", "test/**/global-setup.ts", "scripts/results-reporter.js"],
    rules: { "no-restricted-syntax": ["error", ...NAMES] },
  },
  {
    files: ["{src,test}/**/{index,utils,helpers,common,types}.ts", "{src,test}/**/{utils,helpers,common}/**"],
    rules: {
      "no-restricted-syntax": [
        "error",
        { selector: "Program", message: "name the file after the one noun it is about" },
      ],
    },
  },
);
