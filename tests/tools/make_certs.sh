#!/bin/sh
# Makes the certificates of the TLS tests: make_certs.sh DIR. EC P-256, valid for 30 days from
# yesterday; made anew for every run, because a certificate kept in a repository expires.
#
#   ca.crt ca.key                the authority that the tests trust
#   server.crt server.key        localhost, 127.0.0.1, ::1; signed by ca
#   other-name.crt .key          other.example only; signed by ca
#   expired.crt .key             localhost, 127.0.0.1, ::1; ended yesterday; signed by ca
#   not-yet.crt .key             the same names; begins tomorrow; signed by ca
#   soon.crt .key                the same names; ends in 5 days; signed by ca
#   client.crt client.key        a client's certificate (CN nemogate); signed by ca
#   client-soon.crt .key         the same, but ends in 5 days
#   other-ca.crt other-ca.key    an authority that nobody trusts
#   stranger.crt stranger.key    a client's certificate; signed by other-ca
#
# Nothing is asked and nothing outside DIR is touched. Exits 1 when openssl fails.
set -eu

[ $# -eq 1 ] || { echo "usage: make_certs.sh DIR" >&2; exit 2; }
mkdir -p "$1"
cd "$1"
mkdir -p issued
: >issued/index.txt

# "openssl ca", because "openssl x509" of OpenSSL 3.0 cannot set when a certificate begins.
cat >openssl.cnf <<'CONF'
[ca]
default_ca = tests
[tests]
database = issued/index.txt
new_certs_dir = issued
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
[any]
commonName = supplied
[req]
distinguished_name = subject
[subject]
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1, IP:::1
[other_name]
extendedKeyUsage = serverAuth
subjectAltName = DNS:other.example
[client]
extendedKeyUsage = clientAuth
CONF

day() { date -u -d "$1 days" +%Y%m%d%H%M%SZ; }

new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }

# authority NAME
authority() {
    new_key "$1"
    openssl req -config openssl.cnf -x509 -new -key "$1.key" -subj "/CN=nemogate test $1" \
        -days 30 -extensions authority -out "$1.crt"
}

# certificate NAME CN EXTENSIONS AUTHORITY FIRST_DAY LAST_DAY
certificate() {
    new_key "$1"
    openssl req -config openssl.cnf -new -key "$1.key" -subj "/CN=$2" -out "$1.csr"
    openssl ca -config openssl.cnf -batch -notext -in "$1.csr" -out "$1.crt" -extensions "$3" \
        -cert "$4.crt" -keyfile "$4.key" -startdate "$(day "$5")" -enddate "$(day "$6")"
    rm "$1.csr"
}

{
    authority ca
    authority other-ca
    certificate server localhost server ca -1 30
    certificate other-name other.example other_name ca -1 30
    certificate expired localhost server ca -30 -1
    certificate not-yet localhost server ca +1 30
    certificate soon localhost server ca -1 5
    certificate client nemogate client ca -1 30
    certificate client-soon nemogate client ca -1 5
    certificate stranger nemogate client other-ca -1 30
} >openssl.log 2>&1 || { cat openssl.log >&2; exit 1; }
rm -r issued openssl.cnf openssl.log
