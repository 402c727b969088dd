// What each vendor's PKCS#11 library needs on a node beyond its own file: folders, devices, a group, variables. The pod
// and the systemd drop-in are generated from these rows. Only `init` reads them: the plugin itself knows no vendor.

export const HSMS = ["softhsm", "luna", "cloudhsm", "nshield", "yubihsm2", "tpm2", "other"] as const;
export type Hsm = (typeof HSMS)[number];

/** A path of the node that the pod mounts under the same path. */
export interface Mount {
  /** Name of the volume in the pod. */
  readonly name: string;
  readonly path: string;
  readonly kind: "Directory" | "File";
  readonly writable?: true;
}

export interface HsmNeeds {
  /** What provides the library, for the operator. */
  readonly installs: string;
  /** The group whose members may use the HSM. Its number differs between nodes. */
  readonly group?: string;
  /** Folders and files besides the library. */
  readonly mounts: readonly Mount[];
  /** Folders that the library writes to. */
  readonly writes: readonly string[];
  /** Variables for the library. */
  readonly environment: Readonly<Record<string, string>>;
  /** Variables that differ in a pod, which cannot open devices. */
  readonly podEnvironment?: Readonly<Record<string, string>>;
  /** The library speaks D-Bus, whose daemon closes the connections of users that the node does not know. */
  readonly needsKnownUser?: true;
  readonly devices: readonly string[];
  /** The vendor's units that the plugin's unit starts after. */
  readonly after: readonly string[];
  /** Settings of the library that `init` writes. */
  readonly files: readonly { readonly path: string; readonly content: string }[];
  /** Makes the token or registers the node, before the plugin can log in. */
  readonly prepare: string;
}

export const HSM_NEEDS: Readonly<Record<Hsm, HsmNeeds>> = {
  softhsm: {
    installs: "the package softhsm2",
    group: "softhsm",
    mounts: [
      { name: "softhsm-settings", path: "/etc/softhsm", kind: "Directory" },
      { name: "softhsm-tokens", path: "/var/lib/softhsm/tokens", kind: "Directory", writable: true },
    ],
    writes: ["/var/lib/softhsm/tokens"],
    environment: { SOFTHSM2_CONF: "/etc/softhsm/softhsm2.conf" },
    devices: [],
    after: [],
    files: [],
    prepare:
      "make the token as the plugin's user, since only root can read what root makes: setpriv --reuid=10001 --regid=10001 --groups=softhsm softhsm2-util --init-token --free --label kms",
  },
  luna: {
    installs: "the Luna HSM Client",
    group: "hsmusers",
    mounts: [
      { name: "luna-client", path: "/usr/safenet/lunaclient", kind: "Directory" },
      { name: "luna-settings", path: "/etc/Chrystoki.conf", kind: "File" },
    ],
    writes: [],
    environment: { ChrystokiConfigurationPath: "/etc" },
    devices: [],
    after: [],
    files: [],
    prepare: "register the node as a client of the HSM, and assign the partition to it",
  },
  cloudhsm: {
    installs: "AWS CloudHSM Client SDK 5 (cloudhsm-pkcs11)",
    mounts: [
      { name: "cloudhsm", path: "/opt/cloudhsm", kind: "Directory" },
      { name: "cloudhsm-log", path: "/opt/cloudhsm/run", kind: "Directory", writable: true },
    ],
    writes: ["/opt/cloudhsm/run"],
    environment: {},
    devices: [],
    after: [],
    files: [],
    prepare:
      "run configure-pkcs11 (with --disable-key-availability-check for a cluster of one HSM), copy the cluster's certificate to /opt/cloudhsm/etc/customerCA.crt, and let user 10001 write to /opt/cloudhsm/run",
  },
  nshield: {
    installs: "the Security World software",
    group: "nfast",
    // A process may connect to the hardserver's socket although the folder is mounted read-only.
    mounts: [{ name: "nfast", path: "/opt/nfast", kind: "Directory" }],
    writes: [],
    environment: { CKNFAST_LOADSHARING: "1" },
    devices: [],
    after: ["nc_hardserver.service"],
    files: [],
    prepare: "load the Security World on the node, and insert the operator cards",
  },
  yubihsm2: {
    installs: "the packages yubihsm-pkcs11 and yubihsm-connector",
    mounts: [],
    writes: [],
    environment: { YUBIHSM_PKCS11_CONF: "/etc/kms-pkcs11/yubihsm_pkcs11.conf" },
    devices: [],
    after: ["yubihsm-connector.service"],
    files: [{ path: "/etc/kms-pkcs11/yubihsm_pkcs11.conf", content: "connector = http://127.0.0.1:12345\n" }],
    prepare: "start yubihsm-connector, and make an authentication key",
  },
  tpm2: {
    installs: "the packages libtpm2-pkcs11-1, libtpm2-pkcs11-tools and tpm2-abrmd",
    group: "tss",
    mounts: [
      { name: "tpm2-store", path: "/etc/tpm2_pkcs11", kind: "Directory", writable: true },
      // A pod needs `privileged` to open /dev/tpmrm0; without it, it reaches tpm2-abrmd over D-Bus.
      { name: "dbus", path: "/run/dbus", kind: "Directory" },
    ],
    writes: ["/etc/tpm2_pkcs11"],
    environment: { TPM2_PKCS11_STORE: "/etc/tpm2_pkcs11", TPM2_PKCS11_TCTI: "device:/dev/tpmrm0" },
    podEnvironment: { TPM2_PKCS11_TCTI: "tabrmd:" },
    needsKnownUser: true,
    devices: ["/dev/tpmrm0"],
    after: [],
    files: [],
    prepare: "make the token with tpm2_ptool in /etc/tpm2_pkcs11, which the plugin's user must own",
  },
  other: {
    installs: "the vendor's client",
    mounts: [],
    writes: [],
    environment: {},
    devices: [],
    after: [],
    files: [],
    prepare: "make the token with the vendor's tool",
  },
};
