// The token hosts of a report: one with the plugin's login, one that makes keys, with the administrator's login if there
// is one. A host that ended in a trial is replaced, a limited number of times. A refused login ends the report.
import { hostAccess, type HostAccess } from "../../compose/tokens.js";
import type { Settings, TokenSettings } from "../../config/settings.js";
import { asAdministrator } from "../../config/tokens.js";
import { KmsError } from "../../errors.js";
import type { OperatorPin } from "../../hsm/login/operator-pin.js";
import type { LoginGate } from "../../hsm/login/login-gate.js";
import { TrialHost } from "../../hsm/trial-host.js";
import { actingEnvironment, actingUser } from "../acting-user.js";
import { SILENT } from "../command-tokens.js";
import type { Operator } from "../operator.js";

/** Hosts that a report may start, including one for each replacement. */
const MOST_STARTS = 12;

/** The same if only one host may run at a time: each change of the role then starts one. */
const MOST_EXCLUSIVE_STARTS = 60;

/** One for the trials, one that shows what another load of the library sees. */
const LANES = 2;

/** A host's role: it uses keys, makes them, or uses the KEK of the plugin. */
export type Role = "user" | "maker" | "kek";

interface Login {
  readonly token: TokenSettings;
  readonly gate: LoginGate;
}

/** Starts, logs in, replaces and stops the hosts of one report. */
export class TrialHosts {
  readonly #settings: Settings;
  readonly #operator: Operator;
  readonly #label: string;
  readonly #hosts = new Map<Role, TrialHost>();
  readonly #logins = new Map<"user" | "maker", Login>();
  /** Whether keys are made with another login than the plugin's. */
  readonly hasAdministrator: boolean;
  #starts = 0;
  #isExclusive = false;

  /** @param label the object name of the report's KEKs */
  constructor(settings: Settings, operator: Operator, label: string) {
    this.#settings = settings;
    this.#operator = operator;
    this.#label = label;
    const [{ admin, pin }] = settings.tokens;
    // Standard input holds one PIN: it is never tried as that of another role.
    this.hasAdministrator = admin !== undefined && pin.kind !== "stdin";
  }

  /** Whether the library admits one process at a time, so that only one host runs. */
  get isExclusive(): boolean {
    return this.#isExclusive;
  }

  /** Returns the host of a role, started and logged in. @throws KmsError */
  async use(role: Role): Promise<TrialHost> {
    const running = this.#hosts.get(role);
    return running?.alive === true ? running : this.restart(role);
  }

  /** Starts the host of a role again, with a freshly loaded library, and logs it in. @throws KmsError */
  async restart(role: Role): Promise<TrialHost> {
    return this.login(role, await this.start(role));
  }

  /**
   * Logs a started host in. If the token requires a PIN and no source is configured, prompts for it, and returns another
   * host.
   * @throws KmsError
   */
  async login(role: Role, host: TrialHost): Promise<TrialHost> {
    const { token } = await this.#loginOf(role);
    const { pins } = this.#operator;
    try {
      await host.login();
      return host;
    } catch (error) {
      if (KmsError.from(error).code !== "PIN_UNREADABLE" || !pins.canPrompt(token)) throw error;
    }
    if (this.#whoIs(role) === "maker") {
      this.#operator.notify("the administrator's login has no PIN source:");
    }
    this.#logins.set(this.#whoIs(role), { token, gate: this.#gate(token, await pins.prompt(token)) });
    const again = await this.start(role);
    await again.login();
    return again;
  }

  /**
   * Starts the host of a role without a login, and stops the previous one if it runs. If it cannot be opened beside the
   * hosts of other roles but alone, the library admits one process at a time.
   * @throws KmsError
   */
  async start(role: Role): Promise<TrialHost> {
    if (this.#isExclusive) await this.stop();
    else await this.#hosts.get(role)?.stop();
    try {
      return await this.#open(role);
    } catch (error) {
      const others = [...this.#hosts].filter(([other, { alive }]) => other !== role && alive);
      if (others.length === 0) throw error;
      await this.stop();
      const alone = await this.#open(role);
      this.#isExclusive = true;
      return alone;
    }
  }

  async #open(role: Role): Promise<TrialHost> {
    const most = this.#isExclusive ? MOST_EXCLUSIVE_STARTS : MOST_STARTS;
    if (++this.#starts > most) {
      throw new KmsError(
        "HSM_UNAVAILABLE",
        `the token host ended in ${most} trials; the remaining trials were not run`,
      );
    }
    const { host, gate } = await this.#access(role);
    const { startTimeoutMs } = this.#settings.hsm;
    const made = new TrialHost({ host, gate, startTimeoutMs, log: SILENT });
    this.#hosts.set(role, made);
    await made.open();
    return made;
  }

  /** Ends the hosts at once, even during a call. */
  kill(): void {
    for (const host of this.#hosts.values()) host.kill();
  }

  /** Ends all hosts. */
  async stop(): Promise<void> {
    await Promise.all([...this.#hosts.values()].map((host) => host.stop()));
  }

  async #access(role: Role): Promise<HostAccess> {
    const { token, gate } = await this.#loginOf(role);
    const user = actingUser(this.#settings, this.#operator);
    const env = actingEnvironment(user, process.env);
    const { host } = hostAccess({ settings: this.#settings, token, log: SILENT, env, user });
    const open = { ...host.open };
    // The KEK that the URI names is not among the report's.
    delete open.ckaId;
    const objectName = role === "kek" ? this.#settings.objectName : this.#label;
    return { gate, host: { ...host, sessions: LANES, open: { ...open, objectName } } };
  }

  #whoIs(role: Role): "user" | "maker" {
    return role === "maker" && this.hasAdministrator ? "maker" : "user";
  }

  async #loginOf(role: Role): Promise<Login> {
    const who = this.#whoIs(role);
    const known = this.#logins.get(who);
    if (known !== undefined) return known;
    const [token] = who === "maker" ? asAdministrator(this.#settings.tokens) : this.#settings.tokens;
    const supplied = await this.#operator.pins.supplied(this.#settings, token);
    const login = { token, gate: this.#gate(token, supplied) };
    this.#logins.set(who, login);
    return login;
  }

  #gate(token: TokenSettings, suppliedPin: OperatorPin | undefined): LoginGate {
    return hostAccess({ settings: this.#settings, token, log: SILENT, env: process.env, suppliedPin }).gate;
  }
}
