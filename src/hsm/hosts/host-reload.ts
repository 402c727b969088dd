// Reloads the library: ends a warm token host and waits for one that loads the library later. A library that is already
// loaded may never show what has changed on its token.
import { KmsError } from "../../errors.js";
import type { HostProcess } from "./host-process.js";
import type { AcceptsHost, ReadingHosts } from "./reading-hosts.js";

/** A host that has loaded the library since the reload was requested. */
export interface ReloadedHost {
  readonly host: HostProcess;
  /** Returns whether a host has loaded the library since then. */
  readonly isReloaded: AcceptsHost;
}

/** Reloads the library of one token's hosts. */
export class HostReload {
  readonly #hosts: ReadingHosts;
  readonly #refuseIfLast: () => void;
  /** Whether a host has been ended for a reload, and no reloaded host has been read since. */
  #isUnfinished = false;

  /** @param refuseIfLast throws if the last host is kept for requests */
  constructor(hosts: ReadingHosts, refuseIfLast: () => void) {
    this.#hosts = hosts;
    this.#refuseIfLast = refuseIfLast;
  }

  /** Returns a host that has loaded the library after this call. @throws KmsError if none can be started */
  async reload(): Promise<ReloadedHost> {
    if (this.#hosts.configured > 1) await this.#hosts.whenReady(() => this.#areAllReady());
    const since = performance.now();
    const isReloaded: AcceptsHost = ({ openedAt }) => openedAt >= since;
    for (;;) {
      this.#refuseIfLast();
      this.#refuseWithoutPin();
      // After a reload that has failed, the remaining hosts are kept for requests.
      if (this.#areAllReady() || !this.#isUnfinished) this.#hosts.ready.at(-1)?.kill("reload");
      this.#isUnfinished = true;
      const ready = await this.#hosts.whenReady((one) => isReloaded(one) || this.#areAllReady(), since);
      const host = this.#hosts.ready.find(isReloaded);
      if (host !== undefined) return { host, isReloaded };
      // A library that is already loaded may list a token that is away as empty.
      if (ready === undefined) throw this.#noHost();
    }
  }

  /** Records that a reloaded host has been read. */
  finish(): void {
    this.#isUnfinished = false;
  }

  /** While the PIN is refused or missing, hosts that are logged in are kept for requests: no other one could log in. */
  #refuseWithoutPin(): void {
    const { reason } = this.#hosts;
    if (reason?.code === "PIN_REFUSED" || reason?.code === "PIN_UNREADABLE") throw this.#noHost();
  }

  #noHost(): KmsError {
    const { reason } = this.#hosts;
    const why = reason === undefined ? "" : `: ${reason.message}`;
    return new KmsError("HSM_UNAVAILABLE", `no token host can be started to read the token${why}`, reason);
  }

  #areAllReady(): boolean {
    return this.#hosts.ready.length >= this.#hosts.configured;
  }
}
