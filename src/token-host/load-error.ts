// Explains why dlopen could not load a PKCS#11 library: which shared library is missing, what provides it, and how to
// correct the rest. Knows the dynamic linker's messages (glibc), and no vendor.

/** Packages whose names do not follow from the library's name. */
const PACKAGES: Readonly<Record<string, string>> = {
  "libcrypto.so.1.1": "libssl1.1",
  "libcrypto.so.3": "libssl3",
  "libssl.so.3": "libssl3",
  "libgcc_s.so.1": "libgcc-s1",
  "libz.so.1": "zlib1g",
};

/**
 * Returns what to do about an error of dlopen, in words that may follow a semicolon.
 * @param message the first line of the error
 * @param modulePath the library that was to be loaded
 */
export function adviceFor(message: string, modulePath: string): string {
  const missing = /^(\S+): cannot open shared object file: No such file/.exec(message)?.[1];
  if (missing !== undefined && missing !== modulePath) return adviceForMissing(missing);
  const version = /version `(GLIBC\w*_[\d.]+|CXXABI_[\d.]+)' not found/.exec(message)?.[1];
  if (version !== undefined) {
    return `it was built for a newer system, with ${version}; install the vendor's client for this system's release, or use an image with a newer base`;
  }
  if (/wrong ELF class|invalid ELF header|cannot open shared object file: Exec format/.test(message)) {
    return `it is not a library for ${process.arch}; install the vendor's client for this architecture`;
  }
  return "install the vendor's client or correct module-path";
}

function adviceForMissing(library: string): string {
  const name = packageOf(library);
  const provider = name === undefined ? "" : ` (Debian: package ${name})`;
  return `it needs ${library}, which this system lacks: install it${provider}; in a container, copy it from the node to a folder in LD_LIBRARY_PATH, /opt/hsm/lib in the static pod`;
}

/** Returns the name that Debian's policy gives the package of a library: libfoo.so.2 is in libfoo2 (section 8.1). */
function packageOf(library: string): string | undefined {
  const known = PACKAGES[library];
  if (known !== undefined) return known;
  const [, name = "", version = ""] = /^(lib[\w.+-]+?)\.so\.(\d+)/.exec(library) ?? [];
  if (name === "") return undefined;
  const base = name.toLowerCase().replaceAll("_", "-");
  return /\d$/.test(base) ? `${base}-${version}` : `${base}${version}`;
}
