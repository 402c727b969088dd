# After a removal, as root. Configuration, PIN, state and audit log stay: without them, Secrets may be lost.
# Root's commands add compiled modules to those of the package; the other file has allowed this removal.
rm -rf /opt/kms-pkcs11/lib/dist/compile-cache /run/kms-pkcs11-remove-anyway
[ ! -d /opt/kms-pkcs11 ] || find /opt/kms-pkcs11 -depth -type d -empty -delete
[ ! -d /run/systemd/system ] || systemctl daemon-reload
echo "kms-pkcs11: kept /etc/kms-pkcs11, /var/lib/kms-pkcs11, /var/log/kms-pkcs11 and the user kms-pkcs11"
