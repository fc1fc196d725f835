// A server's certificate as a client sees it that knows the cloud's authority, an organisation's,
// and who the server is by them.
#include "common/tls/server_certificate.h"

#include <openssl/x509.h>

#include <memory>

#include "tests/fuzz/fuzz_target.h"

namespace datacloud::fuzz {
namespace server_certificate_input {

constexpr int64_t kServerNow = 1'800'000'000ll * 1'000'000'000;
constexpr int64_t kServerLife = 1'000'000'000'000;

// Authorities of two clouds; the second is the organisation here: its certificates carry a URI,
// too.
const CertificateAuthority& cloud() {
  static const auto made = CertificateAuthority::derive(SecretKey(ByteView(Bytes(32, 1))),
                                                        "00000000-0000-4000-8000-000000000001");
  return made;
}
const CertificateAuthority& organisation() {
  static const auto made = CertificateAuthority::derive(SecretKey(ByteView(Bytes(32, 2))),
                                                        "00000000-0000-4000-8000-000000000002");
  return made;
}

NodeIdentity server_of(const CertificateAuthority& authority) {
  return {authority.cloud_uuid(), "store01", NodeRoles(NodeRole::daemon)};
}

void run(ByteView input) {
  static const Bytes authorities = [] {
    Bytes both = cloud().certificate();
    const Bytes& other = organisation().certificate();
    both.insert(both.end(), other.begin(), other.end());
    return both;
  }();
  static const std::vector<std::string> identities = {"dns:store01.example",
                                                      to_uri(server_of(organisation()))};
  const uint8_t* at = input.data();
  const std::unique_ptr<X509, decltype(&X509_free)> shown(
      d2i_X509(nullptr, &at, static_cast<long>(input.size())), &X509_free);
  if (!shown) return;
  const auto peer = judge_server(shown.get(), nullptr, authorities, identities, kServerNow);
  const auto unknown = judge_server(shown.get(), nullptr, authorities, {}, kServerNow);
  require(!unknown.named, "nobody is known by an identity that was not told");
  if (peer.verdict != PeerCertificate::Verdict::good) {
    require(!peer.problem.empty(), "what is wrong is said");
    require(!peer.named, "only a good certificate names its server");
  } else if (peer.named) {
    require(unknown.verdict != PeerCertificate::Verdict::good,
            "what the organisation has signed counts with an identity only");
  } else {
    require(peer.identity.cloud_uuid == cloud().cloud_uuid(), "it is one of this cloud");
  }
}

std::vector<Bytes> seeds() {
  const NodeKey key = NodeKey::generate();
  NodeIdentity another = server_of(organisation());
  another.name = "store02";
  const auto issued = [&](const CertificateAuthority& authority, const NodeIdentity& identity) {
    return authority.issue(key, identity, kServerNow, kServerLife).der;
  };
  return {issued(cloud(), server_of(cloud())), issued(organisation(), server_of(organisation())),
          issued(organisation(), another), cloud().certificate()};
}

}  // namespace server_certificate_input

FuzzTarget server_certificate_target() {
  return {"server_certificate", server_certificate_input::run, server_certificate_input::seeds};
}

}  // namespace datacloud::fuzz
