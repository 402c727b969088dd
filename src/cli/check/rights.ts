// The part of `kms-pkcs11 check` that reports what the plugin's login may do beyond the use of keys.
import { describeRole } from "../../config/login-role.js";
import type { TokenSettings } from "../../config/settings.js";
import type { TestedRight } from "../../hsm/port.js";
import type { TokenHsm } from "../../hsm/token-hsm.js";
import type { Report } from "./findings.js";

/** Tests the rights with session objects only. @throws KmsError if the token is away */
export async function checkRights(token: TokenSettings, hsm: TokenHsm, report: Report): Promise<void> {
  if (hsm.token()?.loginRequired !== true) return;
  const role = describeRole(token.userType);
  for (const right of await hsm.testRights()) {
    const [verdict, detail] = judge(right, token.admin !== undefined);
    report.add(verdict, "rights", `role ${role} ${detail}`);
  }
}

function judge(
  { right, outcome, detail }: TestedRight,
  hasAdministrator: boolean,
): readonly ["ok" | "warn", string] {
  switch (outcome) {
    case "refused":
      return ["ok", `may not ${right}: enforced by the token`];
    case "untested":
      return ["ok", `may perhaps ${right}: not enforceable as far as session objects show (${detail})`];
    case "permitted":
      return hasAdministrator
        ? [
            "warn",
            `may ${right}, at least in a session: too powerful; set login.role and the PIN to a role that may only use keys`,
          ]
        : [
            "ok",
            `may ${right}, at least in a session; to separate this right, give 'keys' commands a login of their own with admin`,
          ];
  }
}
