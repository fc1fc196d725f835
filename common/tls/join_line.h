// The one line by which a machine joins a cloud (docs/nodes.md): where the daemon is, whose it is,
// and a secret that nobody else has.
//
//   datacloud-join-1.LETTERS
//
// LETTERS are base64url (RFC 4648, without padding) of: the authority's key hash (32 bytes), the
// secret (32), seconds since 1970 at which it expires (u64 big-endian), then the node's name and
// the number of addresses and the addresses, each with its length (u8) before it, and the first
// four bytes of the SHA-256 of all that. Whoever has the line can become the node and read the data
// key.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/tls/certificate.h"

namespace datacloud {

inline constexpr size_t kJoinAddressesMax = 8;
inline constexpr size_t kJoinLineBytesMax = 4096;

struct JoinLine {
  Bytes authority_hash;  // NodeKey::hash() of the authority
  SecretKey secret;
  int64_t expires_s = 0;
  std::string name;
  std::vector<std::string> addresses;  // tls://
};

// The text holds the secret: whoever calls this wipes it.
std::string encode_join_line(const JoinLine&);
// invalid: it is no such line, or was damaged on the way (a check covers all of it).
result<JoinLine> parse_join_line(std::string_view text);

// What the secret gives: the key by which the joining machine shows that it has the line, and the
// one under which its bundle is sealed.
NodeKey invitation_key(const SecretKey& secret);
// AES-256-GCM; bound to the node's name. open: corrupt when it does not authenticate.
Bytes seal_bundle(const SecretKey& secret, const std::string& name, ByteView bundle);
result<Bytes> open_bundle(const SecretKey& secret, const std::string& name, ByteView sealed);

}  // namespace datacloud
