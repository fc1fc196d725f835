// What is looked at before a peer is admitted, or of one that has only an invitation: certificates,
// the names in them, and requests to sign a key.
#include "common/tls/certificate.h"

#include "tests/fuzz/fuzz_target.h"

namespace datacloud::fuzz {
namespace certificate_input {

constexpr int64_t kNow = 1'800'000'000ll * 1'000'000'000;

const CertificateAuthority& authority() {
  static const auto made = CertificateAuthority::derive(SecretKey(ByteView(Bytes(32, 1))),
                                                        "00000000-0000-4000-8000-000000000001");
  return made;
}

void run(ByteView input) {
  const auto peer =
      judge_certificate(input, authority().certificate(), CertificateUse::client, kNow);
  if (peer.verdict == PeerCertificate::Verdict::good) {
    require(peer.identity.cloud_uuid == authority().cloud_uuid(), "it is one of this cloud");
    require(valid_node_name(peer.identity.name), "it names a node");
  } else {
    require(!peer.problem.empty(), "what is wrong is said");
  }
  if (const auto identity = parse_node_uri(as_text(input))) {
    require(parse_node_uri(to_uri(identity.value())).has_value(), "names are written as read");
  }
  if (const auto key = read_certificate_request(input)) {
    require(key.value().hash().size() == 32, "a request has a key");
  }
}

std::vector<Bytes> seeds() {
  const NodeKey key = NodeKey::generate();
  NodeRoles roles(NodeRole::mount);
  roles.add(NodeRole::admin);
  const NodeIdentity identity{authority().cloud_uuid(), "gpu07", roles};
  return {authority().issue(key, identity, kNow, 1'000'000'000'000).der, authority().certificate(),
          make_certificate_request(key), copy_of(to_uri(identity))};
}

}  // namespace certificate_input

FuzzTarget certificate_target() {
  return {"certificate", certificate_input::run, certificate_input::seeds};
}

}  // namespace datacloud::fuzz
