// Who may see the console: the browser that first opens the printed address. It exchanges the one-time ticket in the
// address for a cookie. Other users of the machine can reach the port too, but have neither.
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";

const SECRET_BYTES = 32;

/** Exchanges one ticket for one cookie. */
export class ConsoleSession {
  /** The ticket in the address to print. */
  readonly ticket = randomSecret();
  readonly #cookie = randomSecret();
  /** Browsers send a cookie to every port of a host, so two consoles must not use the same name. */
  readonly #cookieName = `kms-pkcs11-console-${randomBytes(4).toString("hex")}`;
  #isUsed = false;

  /** Returns the Set-Cookie header for the right ticket, the first time; otherwise undefined. */
  exchange(ticket: string): string | undefined {
    if (!areEqual(ticket, this.ticket) || this.#isUsed) return undefined;
    this.#isUsed = true;
    return `${this.#cookieName}=${this.#cookie}; HttpOnly; SameSite=Strict; Path=/`;
  }

  /** Whether a Cookie header contains the cookie. */
  admits(cookies: string | undefined): boolean {
    return (cookies ?? "").split(";").some((pair) => {
      const [name, value = ""] = pair.trim().split("=", 2);
      return name === this.#cookieName && areEqual(value, this.#cookie);
    });
  }
}

function randomSecret(): string {
  return randomBytes(SECRET_BYTES).toString("base64url");
}

/** Compares digests, so that the time depends on neither value. */
function areEqual(given: string, secret: string): boolean {
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(given), digest(secret));
}
