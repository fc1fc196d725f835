// Certificates of nodes that an organisation's own authorities have signed (docs/nodes.md, "The
// organisation's own certificates").
//
// An organisation signs whatever it likes, so such a certificate names nobody here: it counts when
// a node's record has its fingerprint, and that record says who it is and what it may.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/error.h"

namespace datacloud {

inline constexpr size_t kFingerprintBytes = 32;  // a serial number of ours has 16
inline constexpr size_t kOrganisationAuthoritiesMax = 16;

// SHA-256 of a certificate (DER).
Bytes certificate_fingerprint(ByteView der);
// From 64 hexadecimal digits, with or without colons between bytes, as openssl(1) prints them, also
// behind "...=". invalid: it is none.
result<Bytes> parse_fingerprint(const std::string& text);

// The certificates of a PEM file, DER one behind the other. invalid: there is none, or one of them
// may not sign others.
result<Bytes> read_authorities_file(const std::filesystem::path&);
// Each of them by itself.
std::vector<Bytes> split_certificates(ByteView der);

}  // namespace datacloud
