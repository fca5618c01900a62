#!/usr/bin/env bash
# Makes the certificate for the TLS tests. The key is public: it protects nothing.
cd "$(dirname "$0")"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out cert.pem -days 36500 \
    -subj /CN=localhost -addext "subjectAltName=DNS:localhost,IP:127.0.0.1"
