// The systemd drop-in: what the HSM's library, the distribution and an encrypted PIN need beyond the unit of
// deploy/systemd/. systemd.exec(5), systemd.resource-control(5).
import { HSM_NEEDS } from "./hsm-needs.js";
import type { Answers } from "./values.js";

/** The credential that `systemd-creds encrypt` writes. */
export const ENCRYPTED_PIN = "/etc/kms-pkcs11/credentials/pin.cred";

/** The unit that runs the API server. The plugin's unit names kubelet already. */
const API_SERVER_UNITS: Readonly<Partial<Record<Answers["distribution"], string>>> = {
  k3s: "k3s.service",
  rke2: "rke2-server.service",
};

/** Returns the text of the drop-in; undefined if the unit needs none. */
export function dropInText({ hsm, distribution, pin }: Answers): string | undefined {
  const { after } = HSM_NEEDS[hsm];
  const before = API_SERVER_UNITS[distribution];
  const unit = [
    ...(before === undefined ? [] : [`Before=${before}`]),
    ...after.flatMap((name) => [`Wants=${name}`, `After=${name}`]),
  ];
  const service = serviceLines(hsm);
  const credential =
    pin === "encrypted-credential"
      ? [
          "# The empty line removes the plain PIN file of the unit.",
          "LoadCredential=",
          `LoadCredentialEncrypted=pin:${ENCRYPTED_PIN}`,
        ]
      : [];
  const sections = [...section("Unit", unit), ...section("Service", [...service, ...credential])];
  if (sections.length === 0) return undefined;
  return [
    `# /etc/systemd/system/kms-pkcs11.service.d/hsm.conf: what the library of ${hsm === "other" ? "the HSM" : hsm} needs beyond the unit; then run:`,
    "# systemctl daemon-reload",
    ...sections,
    "",
  ].join("\n");
}

function serviceLines(hsm: Answers["hsm"]): string[] {
  const { group, environment, devices, writes } = HSM_NEEDS[hsm];
  return [
    ...(group === undefined ? [] : [`SupplementaryGroups=${group}`]),
    ...Object.entries(environment).map(([name, value]) => `Environment=${name}=${value}`),
    ...(devices.length === 0 ? [] : ["PrivateDevices=no", "DevicePolicy=closed"]),
    ...devices.map((path) => `DeviceAllow=${path} rw`),
    // With "-" the unit starts although the folder does not exist yet, and reports what the library lacks.
    ...writes.map((path) => `ReadWritePaths=-${path}`),
  ];
}

function section(name: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : [`[${name}]`, ...lines];
}
