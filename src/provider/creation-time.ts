// When a key was made, as its CKA_ID tells where that is a UUIDv7 (RFC 9562): by the clock of whoever made it.

const UUID_V7 = /^([0-9a-f]{12})7[0-9a-f]{3}[89ab][0-9a-f]{15}$/;

/** Returns ms since the epoch; undefined where the CKA_ID, in hexadecimal, does not tell. */
export function creationTime(ckaId: string): number | undefined {
  const [, milliseconds] = UUID_V7.exec(ckaId) ?? [];
  return milliseconds === undefined ? undefined : Number.parseInt(milliseconds, 16);
}
