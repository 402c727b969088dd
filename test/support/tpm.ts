// A TPM 2.0 in software (swtpm) behind its resource manager (tpm2-abrmd, on its own D-Bus) and tpm2-pkcs11: a library
// that generates no secret keys and reads its store only when it is loaded.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { startDaemon } from "./daemon.js";
import { findLibrary, makeFolder, runTool, writePinFile, type TestToken } from "./token.js";

const INSTALL =
  "apt-get install swtpm tpm2-abrmd dbus libtss2-tcti-tabrmd0 libtpm2-pkcs11-1 libtpm2-pkcs11-tools tpm2-tools";
const MODULES = [
  "/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so",
  "/usr/lib/aarch64-linux-gnu/pkcs11/libtpm2_pkcs11.so",
  "/usr/lib64/pkcs11/libtpm2_pkcs11.so",
];
const LABEL = "kms";
const PIN = "tpm-test-pin";

export interface Tpm extends TestToken {
  readonly makeKek: (label: string) => void;
  readonly readAtLoad: boolean;
}

/** Starts the daemons and makes a token. */
export async function createTpm(): Promise<Tpm> {
  const modulePath = findLibrary("tpm2-pkcs11", MODULES, INSTALL);
  const folder = makeFolder("tpm");
  const [state, store, bus] = ["state", "store", "bus"].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  mkdirSync(state);
  mkdirSync(store);
  const env = {
    DBUS_SESSION_BUS_ADDRESS: `unix:path=${bus}`,
    TPM2_PKCS11_STORE: store,
    TPM2_PKCS11_TCTI: "tabrmd:bus_type=session",
    TPM2TOOLS_TCTI: "tabrmd:bus_type=session",
  };
  const socket = join(state, "socket");
  const logFile = join(folder, "daemons.log");
  const daemons = [
    await startDaemon("dbus-daemon", ["--nofork", `--config-file=${busConfiguration(folder, bus)}`], {
      logFile,
      isReady: () => existsSync(bus),
    }),
    // tcti-swtpm expects the control socket beside the data socket.
    await startDaemon(
      "swtpm",
      [
        ...["socket", "--tpm2", "--tpmstate", `dir=${state}`, "--flags", "not-need-init,startup-clear"],
        ...["--server", `type=unixio,path=${socket}`, "--ctrl", `type=unixio,path=${socket}.ctrl`],
      ],
      { logFile, isReady: () => existsSync(socket) && existsSync(`${socket}.ctrl`) },
    ),
    await startDaemon("tpm2-abrmd", ["--session", "--allow-root", `--tcti=swtpm:path=${socket}`], {
      env,
      logFile,
      isReady: () => isOnBus(env),
    }),
  ];
  const ptool = (...args: string[]): string => runTool("tpm2_ptool", args, INSTALL, env);
  ptool("init");
  ptool("addtoken", "--pid", "1", "--label", LABEL, "--userpin", PIN, "--sopin", `so-${PIN}`);
  return {
    modulePath,
    label: LABEL,
    pin: PIN,
    pinFile: writePinFile(folder, PIN),
    env,
    readAtLoad: true,
    makeKek: (label) => {
      ptool("addkey", "--algorithm", "hmac:sha256", "--label", LABEL, "--key-label", label, "--userpin", PIN);
    },
    remove: () => {
      for (const daemon of daemons.reverse()) daemon.kill("SIGKILL");
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function busConfiguration(folder: string, bus: string): string {
  const path = join(folder, "bus.conf");
  writeFileSync(
    path,
    `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
  "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type><listen>unix:path=${bus}</listen><auth>EXTERNAL</auth>
  <policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
</busconfig>
`,
  );
  return path;
}

function isOnBus(env: Readonly<Record<string, string>>): boolean {
  const call = [
    "--session",
    "--print-reply",
    "--dest=org.freedesktop.DBus",
    "/",
    "org.freedesktop.DBus.NameHasOwner",
  ];
  const reply = execFileSync("dbus-send", [...call, "string:com.intel.tss2.Tabrmd"], {
    env: { ...process.env, ...env },
    encoding: "utf8",
  });
  return reply.includes("true");
}
