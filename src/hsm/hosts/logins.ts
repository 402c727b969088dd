// Logs in the lanes of one token's hosts, through its login gate. A login belongs to what the library treats as an
// application: usually the process, but for some libraries (p11-kit-client) each load of the library, so that every
// lane logs in by itself. A lane that is logged in already costs no attempt.
import { KmsError } from "../../errors.js";
import type { LaneClient } from "./lane-client.js";
import type { LoginGate } from "../login/login-gate.js";
import type { Starts } from "./starts.js";
import { killOnTimeout } from "./control-call.js";
import type { HostProcess } from "./host-process.js";
import type { TokenDescription } from "../port.js";
import { Op } from "../wire-calls.js";

/** Factor by which each abandoned login extends the time limit of the next. */
const LONGER = 1.25;

/** Logs in the lanes of one token's hosts, one login at a time. */
export class Logins {
  readonly #gate: LoginGate;
  readonly #starts: Starts;
  readonly #startTimeoutMs: number;
  readonly #running = new Map<LaneClient, Promise<TokenDescription>>();
  /** The stamp of the PIN that logged in last. */
  #accepted: string | undefined;
  /** Number of logins in a row without an answer. */
  #lost = 0;

  constructor(gate: LoginGate, starts: Starts, startTimeoutMs: number) {
    this.#gate = gate;
    this.#starts = starts;
    this.#startTimeoutMs = startTimeoutMs;
  }

  /**
   * Logs a lane in unless it is logged in already; concurrent calls share one login. Returns the token as last
   * described.
   * @throws KmsError
   */
  login(host: HostProcess, lane: LaneClient): Promise<TokenDescription> {
    const running = this.#running.get(lane);
    if (running !== undefined) return running;
    const login = this.#login(host, lane).finally(() => this.#running.delete(lane));
    this.#running.set(lane, login);
    return login;
  }

  async #login(host: HostProcess, lane: LaneClient): Promise<TokenDescription> {
    const seen: { token?: TokenDescription; attempted: boolean } = { attempted: false };
    await this.#gate.login(
      async () => (seen.token = await this.#describe(host, lane)),
      async (pin) => {
        seen.attempted = true;
        await this.#attempt(host, lane, pin, seen.token);
      },
    );
    if (!seen.attempted && seen.token !== undefined) return seen.token;
    const token = await this.#describe(host, lane);
    if (token.loggedIn || !token.loginRequired) return token;
    // A reinitialised token: the library considers the application logged in, but the token does not.
    host.kill("device");
    throw new KmsError("SESSION_LOST", "the login has no effect; the token host is replaced");
  }

  /** Other logins wait meanwhile, so a login that hangs is abandoned before a start's limit. */
  #describe(host: HostProcess, lane: LaneClient): Promise<TokenDescription> {
    const limitMs = Math.min(this.#starts.lateMs("open"), this.#startTimeoutMs);
    return killOnTimeout(host, limitMs, () => host.control(Op.describe, {}, { lane }));
  }

  async #attempt(host: HostProcess, lane: LaneClient, pin: Buffer, token?: TokenDescription): Promise<void> {
    const { stamp } = this.#gate;
    try {
      await killOnTimeout(host, this.#limitMs(stamp, token), () =>
        this.#starts.measure("login", () => host.control(Op.login, {}, { lane, secret: pin })),
      );
    } catch (error) {
      if (!host.alive) this.#lost++;
      throw error;
    }
    this.#accepted = stamp;
    this.#lost = 0;
    host.lanes.readmit();
  }

  /**
   * A login that hangs blocks all others. If this PIN has logged in before, the login is abandoned early, since the
   * gate allows another attempt. The limit grows each time, so that a token that has become slow can finish.
   */
  #limitMs(stamp: string, token: TokenDescription | undefined): number {
    const isCounted = token?.pinCountLow === true || token?.pinFinalTry === true;
    if (stamp !== this.#accepted || isCounted) return this.#startTimeoutMs;
    return Math.min(this.#startTimeoutMs, this.#starts.lateMs("login") * LONGER ** this.#lost);
  }
}
