# After a removal, as root. Configuration, PIN, state and audit log stay: without them, Secrets may be lost.
[ ! -d /run/systemd/system ] || systemctl daemon-reload
echo "kms-pkcs11: kept /etc/kms-pkcs11, /var/lib/kms-pkcs11, /var/log/kms-pkcs11 and the user kms-pkcs11"
