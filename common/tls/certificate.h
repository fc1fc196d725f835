// Keys and X.509 certificates of nodes (RFC 5280), and the cloud's own authority that signs them.
//
// The authority's Ed25519 key derives from the service key, and its certificate from that: every
// daemon with the service key has the same authority, and its backup is that of the service key.
// Nodes make their own keys (ECDSA P-256) and never give them away.
//
// Thread safety: values; const methods from any thread. Certificates are DER.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "common/base/bytes.h"
#include "common/crypto/keys.h"
#include "common/tls/node_identity.h"

struct evp_pkey_st;
struct x509_st;

namespace datacloud {

inline constexpr size_t kCertificateBytesMax = 8192;

// A key pair of a node or an invitation, or a public key alone.
class NodeKey {
 public:
  NodeKey() = default;
  static NodeKey generate();                        // P-256
  static NodeKey from_seed(const SecretKey& seed);  // Ed25519
  // The private key as PEM (PKCS#8), and back. `name` is what errors call it.
  std::string pem() const;
  static result<NodeKey> parse_pem(const std::string& text, const std::string& name);
  // SHA-256 of the public key (SubjectPublicKeyInfo): what names a key.
  Bytes hash() const;
  evp_pkey_st* native() const { return key_.get(); }
  explicit NodeKey(evp_pkey_st* owned);

 private:
  std::shared_ptr<evp_pkey_st> key_;
};

// A request to sign `key` (PKCS#10, DER). And its public key: corrupt unless it is P-256 and the
// request is signed with it.
Bytes make_certificate_request(const NodeKey& key);
result<NodeKey> read_certificate_request(ByteView der);

// What an invitation's key shows as its certificate: signed by itself, of no authority.
Bytes make_self_signed(const NodeKey&);

struct IssuedCertificate {
  Bytes der;
  Bytes serial;
  int64_t not_after_ns = 0;
};

class CertificateAuthority {
 public:
  static CertificateAuthority derive(const SecretKey& service_key, const std::string& cloud_uuid);
  const Bytes& certificate() const { return certificate_; }
  const std::string& cloud_uuid() const { return cloud_uuid_; }
  // Good from five minutes before now_ns, for clocks that differ. With the role daemon and not
  // mount it is for servers, with site for servers and clients, else for clients.
  IssuedCertificate issue(const NodeKey& public_key, const NodeIdentity&, int64_t now_ns,
                          int64_t valid_ns) const;

 private:
  std::string cloud_uuid_;
  NodeKey key_;
  Bytes certificate_;
};

// What a peer has shown, judged.
struct PeerCertificate {
  enum class Verdict {
    good,     // signed by the authority, in force, for this use
    none,     // it showed none
    foreign,  // not signed by the authority
    expired,  // or not yet in force
    unfit,    // of the authority, but not for this use, or without a node's name
  };
  Verdict verdict = Verdict::none;
  std::string problem;    // for people; empty when good
  bool named = false;     // a server's, by the organisation, with a name that was expected
  NodeIdentity identity;  // what it claims, also when it is not good: then only to be told
  Bytes key_hash;         // NodeKey::hash() of its key
  Bytes serial;
  int64_t not_before_ns = 0;
  int64_t not_after_ns = 0;
};

enum class CertificateUse { client, server };

// Judges a certificate (null: none was shown) at a time since 1970.
PeerCertificate judge_certificate(x509_st* shown, ByteView authority, CertificateUse,
                                  int64_t now_ns);
// The same of DER. Never fails: what does not parse is `foreign`.
PeerCertificate judge_certificate(ByteView shown, ByteView authority, CertificateUse,
                                  int64_t now_ns);
// NodeKey::hash() of a certificate's key; empty when it does not parse.
Bytes certificate_key_hash(ByteView der);

// The cloud of an authority's certificate; empty: it is none of ours.
std::string authority_cloud(ByteView der);

// Files of one certificate as PEM. invalid names the file and the remedy.
std::string certificate_pem(ByteView der);
result<Bytes> read_certificate_file(const std::filesystem::path&);
// The key's file has mode 0600; one that others can read is refused.
result<NodeKey> read_node_key_file(const std::filesystem::path&);
// The same of a server's key that is not one of ours.
result<NodeKey> read_server_key_file(const std::filesystem::path&);

}  // namespace datacloud
