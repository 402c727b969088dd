// A self-signed certificate for 127.0.0.1, for servers and clients on loopback.

import { runTool } from "./token.js";

/** Writes the certificate and its private key as PEM. */
export function makeCertificate(certificate: string, privateKey: string): void {
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", privateKey];
  const subject = ["-subj", "/CN=etcd", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"];
  runTool("openssl", ["req", "-x509", ...key, ...subject, "-out", certificate], "apt-get install openssl");
}
