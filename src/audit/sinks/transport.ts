// Connections to sinks: how messages are sent, and when they count as received.

/** A connection to a sink. After an error it is closed, and the next one continues after the last confirmed line. */
export interface Transport {
  /** How long messages may be unconfirmed, in ms. */
  readonly confirmAfterMs: number;
  /** Why the connection has ended by itself; undefined while it works. */
  readonly failure: Error | undefined;
  /** Hands messages over in their order; resolves when the kernel has all of them. Calls do not overlap. */
  send(messages: readonly Buffer[]): Promise<void>;
  /** Resolves when the receiver has read everything that was sent. @returns whether the connection can still be used */
  confirm(): Promise<boolean>;
  close(): void;
}

/** Opens a connection. */
export type OpenTransport = (signal: AbortSignal) => Promise<Transport>;

/** How long a receiver may take for one step, in ms. */
export interface TransportLimits {
  readonly connectMs: number;
  /** For reading enough that the kernel accepts more. */
  readonly sendMs: number;
  /** For reading all that was sent. */
  readonly confirmMs: number;
  /** For a receiver's close to arrive over the network: longer than a round trip. */
  readonly settleMs: number;
}

export const TRANSPORT_LIMITS: TransportLimits = {
  connectMs: 10_000,
  sendMs: 30_000,
  confirmMs: 30_000,
  settleMs: 1_000,
};
