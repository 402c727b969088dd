// Reads the time of creation from a CKA_ID that is a UUIDv7 (RFC 9562). The clock is that of the machine that made the
// key.

const UUID_V7 = /^([0-9a-f]{12})7[0-9a-f]{3}[89ab][0-9a-f]{15}$/;

/** Returns the time of creation in ms since the epoch; undefined if the hexadecimal CKA_ID is not a UUIDv7. */
export function creationTime(ckaId: string): number | undefined {
  const [, milliseconds] = UUID_V7.exec(ckaId) ?? [];
  return milliseconds === undefined ? undefined : Number.parseInt(milliseconds, 16);
}
