// `kms-pkcs11 init` and the files of a node: complete files with their owners, nothing overwritten unasked, nothing
// written through a link or into another user's folder, and an interrupted run that can be repeated.

import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";

import { afterEach, beforeEach, describe, expect, it } from "vitest";

import { inspectNode } from "../../src/init/inspection.js";
import { UNKNOWN_NODE } from "../../src/init/node-facts.js";
import { planNode, type Planned } from "../../src/init/plan.js";
import type { Answers } from "../../src/init/values.js";
import { writeNode } from "../../src/init/write-node.js";
import { makeFolder } from "../support/token.js";

const ANSWERS: Answers = {
  hsm: "softhsm",
  distribution: "kubeadm",
  runtime: "static-pod",
  nodes: "one",
  groupId: 116,
};
const PIN_FILE = "etc/kms-pkcs11/credentials/pin";
const { parts } = planNode(ANSWERS, UNKNOWN_NODE);

let root: string;
const at = (path: string): string => join(root, path);
const pin = (): Buffer => Buffer.from("1234");
const write = (some: readonly Planned[] = parts): void => {
  writeNode(inspectNode(some, root), root, pin());
};
const statesOf = (): Map<string, string> =>
  new Map(
    inspectNode(parts, root).map(({ part, state, difference }) => [
      part.path,
      `${state} ${difference ?? ""}`.trim(),
    ]),
  );

beforeEach(() => {
  root = makeFolder("init-node");
});
afterEach(() => {
  rmSync(root, { recursive: true, force: true });
});

describe.runIf(process.getuid?.() === 0)("as root", () => {
  it("init writes every part with its owner and mode, and finds nothing to do afterwards", () => {
    expect(new Set(statesOf().values())).toEqual(new Set(["new"]));
    write();
    expect(new Set(statesOf().values())).toEqual(new Set(["unchanged"]));
    expect(lstatSync(at(PIN_FILE))).toMatchObject({ uid: 10001, gid: 10001, mode: 0o100400 });
    expect(lstatSync(at("etc/kms-pkcs11"))).toMatchObject({ uid: 0, mode: 0o040755 });
    expect(lstatSync(at("var/lib/kms-pkcs11"))).toMatchObject({ uid: 10001, mode: 0o040700 });
  });

  it("a file that the operator changed differs, and the one that the API server reads is kept", () => {
    write();
    writeFileSync(at("etc/kms-pkcs11/config.yaml"), "# mine\n");
    writeFileSync(at("etc/kubernetes/encryption/encryption-configuration.yaml"), "# in use\n");
    chmodSync(at(PIN_FILE), 0o644);
    chownSync(at("var/lib/kms-pkcs11"), 0, 0);
    const states = statesOf();
    expect(states.get("/etc/kms-pkcs11/config.yaml")).toBe("other another content");
    expect(states.get("/etc/kubernetes/encryption/encryption-configuration.yaml")).toBe(
      "kept another content",
    );
    expect(states.get(`/${PIN_FILE}`)).toBe("other mode 0644 instead of 0400");
    expect(states.get("/var/lib/kms-pkcs11")).toBe("other owner 0:0 instead of 10001:10001");
  });

  it("an overwritten node has the plan's files, and keeps its PIN", () => {
    write();
    writeFileSync(at("etc/kms-pkcs11/config.yaml"), "# mine\n");
    writeFileSync(at(PIN_FILE), "other PIN");
    chmodSync(at(PIN_FILE), 0o644);
    writeNode(inspectNode(parts, root), root, undefined);
    expect(new Set(statesOf().values())).toEqual(new Set(["unchanged"]));
    expect(readFileSync(at(PIN_FILE), "utf8")).toBe("other PIN");
  });

  it("a folder of the configuration that the plugin's user cannot enter differs, and is opened", () => {
    write();
    chmodSync(at("etc/kms-pkcs11"), 0o700);
    expect(statesOf().get("/etc/kms-pkcs11")).toBe("other mode 0700 instead of 0755");
    write();
    expect(lstatSync(at("etc/kms-pkcs11"))).toMatchObject({ uid: 0, mode: 0o040755 });
  });

  it.each(["etc/kms-pkcs11/config.yaml", PIN_FILE, "etc/kubernetes/manifests/kms-pkcs11.yaml"])(
    "init refuses a symbolic link in place of %s",
    (path) => {
      write();
      rmSync(at(path));
      symlinkSync(at("elsewhere"), at(path));
      expect(statesOf).toThrow(/is a symbolic link; init does not follow or replace it/);
      expect(existsSync(at("elsewhere"))).toBe(false);
    },
  );

  it("init refuses folders that another user owns or can write to, and a link out of the root", () => {
    mkdirSync(at("etc/kms-pkcs11"), { recursive: true });
    chownSync(at("etc/kms-pkcs11"), 12345, 0);
    mkdirSync(at("etc/kubernetes"));
    chmodSync(at("etc/kubernetes"), 0o777);
    symlinkSync("/opt", at("opt"));
    expect(statesOf).toThrow(
      /etc\/kms-pkcs11 belongs to user 12345[^]*etc\/kubernetes can be written by others|opt is a link to \/opt, outside/,
    );
    expect(statesOf).toThrow(/opt is a link to \/opt, outside/);
  });

  it("init accepts a /var/log of root's that a group may write to", () => {
    mkdirSync(at("var/log"), { recursive: true });
    chownSync(at("var/log"), 0, 104);
    chmodSync(at("var/log"), 0o775);
    write();
    expect(lstatSync(at("var/log/kms-pkcs11"))).toMatchObject({ uid: 10001, mode: 0o040700 });
    chmodSync(at("var/log"), 0o777);
    expect(statesOf).toThrow(/var\/log can be written by others/);
  });

  it("init completes a run that was killed, and removes its draft", () => {
    write(parts.slice(0, 10));
    const draft = at("etc/kms-pkcs11/.config.yaml.kms-pkcs11-init");
    writeFileSync(draft, "half");
    rmSync(at("etc/kms-pkcs11/config.yaml"), { force: true });
    write();
    expect(new Set(statesOf().values())).toEqual(new Set(["unchanged"]));
    expect(readdirSync(dirname(draft))).toEqual(["api-server", "config.yaml", "credentials", "init.yaml"]);
  });

  it("an existing folder that others use too keeps its mode", () => {
    mkdirSync(at("run/credentials"), { recursive: true });
    chmodSync(at("run/credentials"), 0o700);
    write();
    expect(lstatSync(at("run/credentials")).mode & 0o7777).toBe(0o700);
  });

  it("a failure in the middle names what was written", () => {
    mkdirSync(at("etc/kms-pkcs11"), { recursive: true });
    const inspected = inspectNode(parts, root);
    // A folder in the place of the draft cannot be replaced.
    mkdirSync(at("etc/kms-pkcs11/.config.yaml.kms-pkcs11-init/x"), { recursive: true });
    expect(() => {
      writeNode(inspected, root, pin());
    }).toThrow(/written before: .*\/etc\/kms-pkcs11\/init\.yaml\. Correct this and run init again/);
  });
});
