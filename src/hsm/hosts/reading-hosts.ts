// The token hosts as the readings see them; the pool implements it.
import type { KmsError } from "../../errors.js";
import type { ReadRequest, ReadSlice } from "../wire-calls.js";
import type { HostProcess } from "./host-process.js";

/** Returns whether a host is acceptable. */
export type AcceptsHost = (host: HostProcess) => boolean;

/** What readings need from the pool. */
export interface ReadingHosts {
  /** Hosts that may be given requests, the serving one first. */
  readonly ready: readonly HostProcess[];
  /** Why the last start failed; undefined if none has failed since a host was ready. */
  readonly reason: KmsError | undefined;
  /** Number of hosts in the configuration. */
  readonly configured: number;
  /** The serving host, after waiting for a start that has not failed yet. @throws KmsError */
  serving(): Promise<HostProcess>;
  /** Reads one slice. @throws KmsError */
  read(host: HostProcess, request: ReadRequest, limitMs: number): Promise<ReadSlice>;
  /** Returns whether operations under a KEK succeed on a host; replaces the host if they do not. */
  proves(host: HostProcess, keyId: string): Promise<boolean>;
  /**
   * Waits for a ready host that `wanted` accepts and returns it; undefined if a start has failed or none makes progress.
   * @param loadedSince failures of starts that loaded the library before this time do not count; by performance.now()
   */
  whenReady(wanted: AcceptsHost, loadedSince?: number): Promise<HostProcess | undefined>;
}
