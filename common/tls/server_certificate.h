// Certificates of servers (the daemon, the servers of sites) that an organisation's own authority
// has signed, and how clients know such a server (docs/nodes.md, "The organisation's own
// certificates").
//
// An organisation signs whatever it likes, so a client is told beforehand who the server is: an
// identity is one of
//   a URI of the certificate's alternative names, as it stands there: "https://data.example/demo"
//   "dns:NAME", a DNS name of it, by the rules of RFC 6125
//   "sha256:DIGITS", the certificate itself: another one is needed when it is renewed
// A server shows this certificate to clients that name one of its authorities in their ClientHello
// (RFC 8446, 4.2.4), and the one of the cloud's own authority to all others.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/tls/certificate.h"

struct stack_st_X509;
struct stack_st_X509_NAME;

namespace datacloud {

// invalid: it is none of the three forms.
result<void> check_server_identity(const std::string&);

// Immutable.
class ServerCertificate {
 public:
  // invalid names the file: it cannot be read, the key does not fit or can be read by others, or
  // the certificate is not for servers. One that has expired is read.
  static result<std::shared_ptr<const ServerCertificate>> read(
      const std::filesystem::path& certificate, const std::filesystem::path& key);
  ~ServerCertificate();
  ServerCertificate(const ServerCertificate&) = delete;
  ServerCertificate& operator=(const ServerCertificate&) = delete;

  x509_st* certificate() const { return certificate_; }
  stack_st_X509* chain() const { return chain_; }  // those behind it in the file
  const NodeKey& key() const { return key_; }
  // By what a client can know it: its first URI, else its first DNS name, else its SHA-256.
  std::string identity() const;
  int64_t not_after_ns() const;
  // Whether one of these names (null: none) is of an authority that has signed it or its chain.
  bool is_asked_for(const stack_st_X509_NAME* authorities) const;

 private:
  ServerCertificate() = default;
  x509_st* certificate_ = nullptr;
  stack_st_X509* chain_ = nullptr;
  NodeKey key_;
};

// The same two files, read again when they have changed, so that renewing takes no restart: put the
// new certificate and its key there. While they do not fit together the last ones count.
//
// One thread at a time.
class ServerCertificateFiles {
 public:
  // Both paths empty: there is none.
  ServerCertificateFiles(std::filesystem::path certificate, std::filesystem::path key);
  // Null: there is none. invalid: what is there has not been good yet.
  result<std::shared_ptr<const ServerCertificate>> get();

 private:
  struct Stamp {
    int64_t certificate_ns = 0, key_ns = 0;
    uint64_t certificate_ino = 0, key_ino = 0;
    bool operator==(const Stamp&) const = default;
  };
  Stamp stamp() const;

  const std::filesystem::path certificate_, key_;
  std::optional<Stamp> seen_;
  std::shared_ptr<const ServerCertificate> last_;
};

// A server's certificate, judged by a client that knows the cloud's authority (the first of
// `authorities`), those of the organisation (the others), and who the server is by them. `chain`:
// what the server has sent; may be null. A server that the organisation has certified is good with
// `named` set, and no identity.
PeerCertificate judge_server(x509_st* shown, stack_st_X509* chain, ByteView authorities,
                             const std::vector<std::string>& identities, int64_t now_ns);

// The subjects of these certificates (DER, one behind the other) from the second on, for the
// ClientHello; the caller frees the stack and what is in it.
stack_st_X509_NAME* names_of_organisation(ByteView authorities);

}  // namespace datacloud
