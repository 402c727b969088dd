// Removes objects that nothing uses. A KEK is destroyed by destroyer.ts.
import type { Handle } from "pkcs11js";
import type { TokenSession } from "./session.js";

/** Destroys objects; ignores failures. @param doing names the call in a fault */
export function removeObjects(session: TokenSession, objects: readonly Handle[], doing: string): void {
  for (const object of objects) {
    session.attempt(doing, (handle) => {
      session.lib.C_DestroyObject(handle, object);
    });
  }
}
