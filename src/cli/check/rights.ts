// The part of `kms-pkcs11 check` that reports what the plugin's login may do beyond the use of keys.
import { describeRole } from "../../config/login-role.js";
import type { TokenSettings } from "../../config/settings.js";
import type { TokenHsm } from "../../hsm/token-hsm.js";
import type { Report } from "./findings.js";

/** "make keys, import keys and destroy keys". */
const IN_WORDS = new Intl.ListFormat("en-GB");

/** Tests the rights with session objects only. @throws KmsError if the token is away */
export async function checkRights(token: TokenSettings, hsm: TokenHsm, report: Report): Promise<void> {
  if (hsm.token()?.loginRequired !== true) return;
  const role = describeRole(token.userType);
  const rights = await hsm.testRights();
  for (const { right, outcome, detail } of rights) {
    if (outcome === "refused") {
      report.add("ok", "rights", `role ${role} may not ${right}: enforced by the token`);
    }
    if (outcome === "untested") {
      report.add(
        "ok",
        "rights",
        `role ${role} may perhaps ${right}: a trial with session objects does not show that the token prevents it (${detail})`,
      );
    }
  }
  const permitted = rights.filter(({ outcome }) => outcome === "permitted").map(({ right }) => right);
  if (permitted.length === 0) return;
  const may = `role ${role} may ${IN_WORDS.format(permitted)}, at least in a session`;
  if (token.admin === undefined) {
    report.add(
      "ok",
      "rights",
      `${may}; to separate this, set admin.role and its PIN, with which 'keys' commands log in`,
    );
  } else {
    report.add(
      "warn",
      "rights",
      `${may}: too powerful; set login.role and the PIN to a role that may only use keys`,
    );
  }
}
