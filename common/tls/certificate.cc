// Certificates over OpenSSL's X509 (certificate.h). Without memory, or without the algorithms,
// nothing here works: then the program ends.
#include "common/tls/certificate.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/obj_mac.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <cstdlib>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "common/base/clock.h"
#include "common/tls/certificate_chain.h"
#include "common/tls/openssl_handles.h"
#include "common/tls/organisation.h"

namespace datacloud {
namespace {

constexpr size_t kSerialBytes = 16;
constexpr int kOrganisationDepth = 4;  // authorities between one that is named and the node
constexpr int64_t kClockSkewSeconds = 300;
// The authority's own certificate is the same bytes whenever it is made: fixed dates, RFC 5280's
// "no end" and an algorithm without randomness.
constexpr const char* kAuthorityFrom = "20200101000000Z";
constexpr const char* kAuthorityUntil = "99991231235959Z";
const std::string kAuthorityName = "Data Cloud authority ";

void must(bool worked) {
  if (!worked) std::abort();
}

void add_extension(X509* certificate, X509* issuer, int nid, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const ExtensionPtr extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value));
  must(extension && X509_add_ext(certificate, extension.get(), -1) == 1);
}

void set_serial(X509* certificate, ByteView serial) {
  const BignumPtr number(BN_bin2bn(serial.data(), static_cast<int>(serial.size()), nullptr));
  must(number && BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) != nullptr);
}

void set_name(X509_NAME* name, const std::string& common_name) {
  must(X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8,
                                  reinterpret_cast<const uint8_t*>(common_name.data()),
                                  static_cast<int>(common_name.size()), -1, 0) == 1);
}

template <class Object, class Encode>
Bytes der_of(const Object* object, Encode encode) {
  const int size = encode(const_cast<Object*>(object), nullptr);
  must(size > 0);
  Bytes out(static_cast<size_t>(size));
  uint8_t* at = out.data();
  must(encode(const_cast<Object*>(object), &at) == size);
  return out;
}

Bytes der_of(const X509* certificate) { return der_of_certificate(certificate); }

X509Ptr parse_certificate(ByteView der) {
  if (der.empty() || der.size() > kCertificateBytesMax) return nullptr;
  const uint8_t* at = der.data();
  X509Ptr certificate(d2i_X509(nullptr, &at, static_cast<long>(der.size())));
  if (at != der.data() + der.size()) return nullptr;
  return certificate;
}

Bytes hash_of(EVP_PKEY* key) {
  if (key == nullptr) return {};
  uint8_t* der = nullptr;
  const int size = i2d_PUBKEY(key, &der);
  if (size <= 0) return {};
  Bytes digest(32);
  must(EVP_Digest(der, static_cast<size_t>(size), digest.data(), nullptr, EVP_sha256(), nullptr) ==
       1);
  OPENSSL_free(der);
  return digest;
}

// Common part of every certificate that is made here.
X509Ptr start_certificate(ByteView serial, const std::string& common_name, EVP_PKEY* key) {
  X509Ptr certificate(X509_new());
  must(certificate && X509_set_version(certificate.get(), X509_VERSION_3) == 1);
  set_serial(certificate.get(), serial);
  set_name(X509_get_subject_name(certificate.get()), common_name);
  must(X509_set_pubkey(certificate.get(), key) == 1);
  return certificate;
}

Bytes serial_of(X509* certificate) {
  const BignumPtr number(ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), nullptr));
  if (!number || BN_num_bytes(number.get()) > 32) return {};
  Bytes out(static_cast<size_t>(BN_num_bytes(number.get())));
  BN_bn2bin(number.get(), out.data());
  return out;
}

// The one URI of a certificate that names a node.
result<NodeIdentity> identity_of(X509* certificate) {
  const std::unique_ptr<GENERAL_NAMES, decltype(&GENERAL_NAMES_free)> names(
      static_cast<GENERAL_NAMES*>(
          X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)),
      GENERAL_NAMES_free);
  const int count = names ? sk_GENERAL_NAME_num(names.get()) : 0;
  if (count != 1) return failure(Errc::corrupt, "the certificate names no node of a Data Cloud");
  const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), 0);
  if (name->type != GEN_URI)
    return failure(Errc::corrupt, "the certificate names no node of a Data Cloud");
  const ASN1_IA5STRING* uri = name->d.uniformResourceIdentifier;
  return parse_node_uri({reinterpret_cast<const char*>(ASN1_STRING_get0_data(uri)),
                         static_cast<size_t>(ASN1_STRING_length(uri))});
}

std::pair<PeerCertificate::Verdict, std::string> verify(X509* shown, std::span<const X509Ptr> by,
                                                        STACK_OF(X509) * chain, int depth,
                                                        CertificateUse use, int64_t now_ns) {
  using Verdict = PeerCertificate::Verdict;
  const StorePtr store(X509_STORE_new());
  const StoreContextPtr context(X509_STORE_CTX_new());
  must(store && context);
  for (const auto& authority : by) must(X509_STORE_add_cert(store.get(), authority.get()) == 1);
  must(X509_STORE_CTX_init(context.get(), store.get(), shown, chain) == 1);
  X509_VERIFY_PARAM* rules = X509_STORE_CTX_get0_param(context.get());
  X509_VERIFY_PARAM_set_time(rules, static_cast<time_t>(now_ns / kNsPerSecond));
  X509_VERIFY_PARAM_set_depth(rules, depth);
  // Whoever is named is trusted, also an authority that another one has signed.
  X509_VERIFY_PARAM_set_flags(rules, X509_V_FLAG_PARTIAL_CHAIN);
  X509_STORE_CTX_set_purpose(context.get(), use == CertificateUse::client
                                                ? X509_PURPOSE_SSL_CLIENT
                                                : X509_PURPOSE_SSL_SERVER);
  if (X509_verify_cert(context.get()) == 1) return {Verdict::good, ""};
  switch (const int error = X509_STORE_CTX_get_error(context.get())) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return {Verdict::expired, "has expired"};
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return {Verdict::expired, "is not in force yet; compare the clocks of both machines"};
    case X509_V_ERR_INVALID_PURPOSE:
      return {Verdict::unfit,
              use == CertificateUse::client ? "is not one of a node" : "is not one of a daemon"};
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
      return {Verdict::foreign, "is not signed by this cloud's authority"};
    default:
      return {Verdict::foreign,
              fmt::format("cannot be trusted ({})", X509_verify_cert_error_string(error))};
  }
}

}  // namespace

Bytes der_of_certificate(const X509* certificate) {
  return der_of(certificate, [](X509* c, uint8_t** at) { return i2d_X509(c, at); });
}

int64_t certificate_time_ns(const ASN1_TIME* time) {
  tm parts{};
  if (time == nullptr || ASN1_TIME_to_tm(time, &parts) != 1) return 0;
  return wall_ns(timegm(&parts), 0);  // years from 0 to 9999: further than nanoseconds reach
}

std::vector<X509Ptr> parse_authorities(ByteView der) {
  std::vector<X509Ptr> all;
  const uint8_t* at = der.data();
  const uint8_t* const end = at + der.size();
  while (at != end && all.size() <= kOrganisationAuthoritiesMax) {
    X509Ptr certificate(d2i_X509(nullptr, &at, static_cast<long>(end - at)));
    if (!certificate) break;
    all.push_back(std::move(certificate));
  }
  return all;
}

std::string subject_of_certificate(X509* certificate) {
  char text[256] = {};
  X509_NAME_oneline(X509_get_subject_name(certificate), text, sizeof text);
  return text;
}

std::pair<PeerCertificate::Verdict, std::string> verify_certificate(X509* shown,
                                                                    std::span<const X509Ptr> by,
                                                                    STACK_OF(X509) * chain,
                                                                    CertificateUse use,
                                                                    int64_t now_ns) {
  return verify(shown, by, chain, kOrganisationDepth, use, now_ns);
}

NodeKey::NodeKey(evp_pkey_st* owned) : key_(owned, EVP_PKEY_free) {}

NodeKey NodeKey::generate() {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  must(key != nullptr);
  return NodeKey(key);
}

NodeKey NodeKey::from_seed(const SecretKey& seed) {
  EVP_PKEY* key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, seed.view().data(),
                                               seed.view().size());
  must(key != nullptr);
  return NodeKey(key);
}

Bytes NodeKey::hash() const { return hash_of(key_.get()); }

Bytes make_certificate_request(const NodeKey& key) {
  const RequestPtr request(X509_REQ_new());
  must(request && X509_REQ_set_pubkey(request.get(), key.native()) == 1 &&
       X509_REQ_sign(request.get(), key.native(), EVP_sha256()) > 0);
  return der_of(request.get(), [](X509_REQ* r, uint8_t** at) { return i2d_X509_REQ(r, at); });
}

result<NodeKey> read_certificate_request(ByteView der) {
  const auto refuse = [](const char* what) {
    return failure(Errc::corrupt, std::string("the certificate request ") + what);
  };
  if (der.empty() || der.size() > kCertificateBytesMax) return refuse("is empty or too long");
  const uint8_t* at = der.data();
  const RequestPtr request(d2i_X509_REQ(nullptr, &at, static_cast<long>(der.size())));
  if (!request || at != der.data() + der.size()) return refuse("does not parse");
  KeyPtr key(X509_REQ_get_pubkey(request.get()));
  if (!key) return refuse("holds no key");
  char group[32] = {};
  size_t length = 0;
  if (EVP_PKEY_is_a(key.get(), "EC") != 1 ||
      EVP_PKEY_get_group_name(key.get(), group, sizeof group, &length) != 1 ||
      std::string_view(group, length) != SN_X9_62_prime256v1) {
    return refuse("is for a key that is not ECDSA P-256");
  }
  if (X509_REQ_verify(request.get(), key.get()) != 1) return refuse("is not signed with its key");
  return NodeKey(key.release());
}

Bytes make_self_signed(const NodeKey& key) {
  const uint8_t serial[] = {1};
  const X509Ptr certificate = start_certificate(serial, "datacloud invitation", key.native());
  must(X509_set_issuer_name(certificate.get(), X509_get_subject_name(certificate.get())) == 1 &&
       ASN1_TIME_set_string(X509_getm_notBefore(certificate.get()), kAuthorityFrom) == 1 &&
       ASN1_TIME_set_string(X509_getm_notAfter(certificate.get()), kAuthorityUntil) == 1 &&
       X509_sign(certificate.get(), key.native(), nullptr) > 0);
  return der_of(certificate.get());
}

CertificateAuthority CertificateAuthority::derive(const SecretKey& service_key,
                                                  const std::string& cloud_uuid) {
  Bytes seed = hkdf_sha256(service_key.view(), "datacloud 1 authority " + cloud_uuid, 32);
  CertificateAuthority authority;
  authority.cloud_uuid_ = cloud_uuid;
  authority.key_ = NodeKey::from_seed(SecretKey(ByteView(seed)));
  OPENSSL_cleanse(seed.data(), seed.size());
  EVP_PKEY* key = authority.key_.native();
  const uint8_t serial[] = {1};
  const X509Ptr certificate = start_certificate(serial, kAuthorityName + cloud_uuid, key);
  X509* c = certificate.get();
  must(X509_set_issuer_name(c, X509_get_subject_name(c)) == 1 &&
       ASN1_TIME_set_string(X509_getm_notBefore(c), kAuthorityFrom) == 1 &&
       ASN1_TIME_set_string(X509_getm_notAfter(c), kAuthorityUntil) == 1);
  add_extension(c, c, NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
  add_extension(c, c, NID_key_usage, "critical,keyCertSign");
  add_extension(c, c, NID_subject_key_identifier, "hash");
  must(X509_sign(c, key, nullptr) > 0);
  authority.certificate_ = der_of(c);
  return authority;
}

IssuedCertificate CertificateAuthority::issue(const NodeKey& public_key,
                                              const NodeIdentity& identity, int64_t now_ns,
                                              int64_t valid_ns) const {
  IssuedCertificate issued;
  issued.serial.resize(kSerialBytes);
  must(RAND_bytes(issued.serial.data(), kSerialBytes) == 1);
  issued.serial[0] = static_cast<uint8_t>((issued.serial[0] & 0x3f) | 0x40);  // positive, 16 bytes
  const X509Ptr issuer = parse_certificate(certificate_);
  const X509Ptr certificate = start_certificate(issued.serial, identity.name, public_key.native());
  X509* c = certificate.get();
  const int64_t now_s = now_ns / kNsPerSecond, until_s = (now_ns + valid_ns) / kNsPerSecond;
  issued.not_after_ns = until_s * kNsPerSecond;
  must(issuer && X509_set_issuer_name(c, X509_get_subject_name(issuer.get())) == 1 &&
       ASN1_TIME_set(X509_getm_notBefore(c), static_cast<time_t>(now_s - kClockSkewSeconds)) !=
           nullptr &&
       ASN1_TIME_set(X509_getm_notAfter(c), static_cast<time_t>(until_s)) != nullptr);
  // Who serves a site also asks the daemon for its next certificate; and the daemon has one to
  // serve, and one to use sites.
  const NodeRoles& roles = identity.roles;
  const char* use = roles.has(NodeRole::site) ? "serverAuth,clientAuth"
                    : roles.has(NodeRole::daemon) && !roles.has(NodeRole::mount) ? "serverAuth"
                                                                                 : "clientAuth";
  add_extension(c, issuer.get(), NID_basic_constraints, "critical,CA:FALSE");
  add_extension(c, issuer.get(), NID_key_usage, "critical,digitalSignature");
  add_extension(c, issuer.get(), NID_ext_key_usage, use);
  add_extension(c, issuer.get(), NID_subject_key_identifier, "hash");
  add_extension(c, issuer.get(), NID_authority_key_identifier, "keyid:always");
  // Not by text: the URI has commas.
  const std::unique_ptr<GENERAL_NAMES, decltype(&GENERAL_NAMES_free)> names(
      sk_GENERAL_NAME_new_null(), GENERAL_NAMES_free);
  GENERAL_NAME* name = GENERAL_NAME_new();
  ASN1_IA5STRING* uri = ASN1_IA5STRING_new();
  const std::string text = to_uri(identity);
  must(names && name != nullptr && uri != nullptr &&
       ASN1_STRING_set(uri, text.data(), static_cast<int>(text.size())) == 1);
  GENERAL_NAME_set0_value(name, GEN_URI, uri);
  must(sk_GENERAL_NAME_push(names.get(), name) > 0 &&
       X509_add1_ext_i2d(c, NID_subject_alt_name, names.get(), 0, X509V3_ADD_DEFAULT) == 1);
  must(X509_sign(c, key_.native(), nullptr) > 0);
  issued.der = der_of(c);
  return issued;
}

PeerCertificate judge_certificate(x509_st* shown, ByteView authority, CertificateUse use,
                                  int64_t now_ns) {
  PeerCertificate peer;
  if (shown == nullptr) {
    peer.problem = "showed no certificate";
    return peer;
  }
  const auto authorities = parse_authorities(authority);
  must(!authorities.empty());
  const std::span<const X509Ptr> own(authorities.data(), 1);
  const auto organisation = std::span<const X509Ptr>(authorities).subspan(1);
  peer.key_hash = hash_of(X509_get0_pubkey(shown));
  peer.serial = serial_of(shown);
  peer.not_before_ns = certificate_time_ns(X509_get0_notBefore(shown));
  peer.not_after_ns = certificate_time_ns(X509_get0_notAfter(shown));
  auto identity = identity_of(shown);
  if (identity) peer.identity = identity.value();
  // The cloud's authority signs nodes itself.
  std::tie(peer.verdict, peer.problem) = verify(shown, own, nullptr, 0, use, now_ns);
  if (peer.verdict == PeerCertificate::Verdict::foreign && !organisation.empty() &&
      use == CertificateUse::client) {
    auto [verdict, problem] = verify_certificate(shown, organisation, nullptr, use, now_ns);
    if (verdict == PeerCertificate::Verdict::foreign) return peer;
    // It names nobody here, whatever it says; what it calls itself is told to people.
    peer.verdict = verdict;
    peer.problem = std::move(problem);
    peer.identity = NodeIdentity{"", subject_of_certificate(shown), {}};
    peer.serial = certificate_fingerprint(der_of(shown));
    return peer;
  }
  if (peer.verdict == PeerCertificate::Verdict::good && !identity) {
    peer.verdict = PeerCertificate::Verdict::unfit;
    peer.problem = "names no node";
  }
  return peer;
}

PeerCertificate judge_certificate(ByteView shown, ByteView authority, CertificateUse use,
                                  int64_t now_ns) {
  const X509Ptr certificate = parse_certificate(shown);
  if (certificate) return judge_certificate(certificate.get(), authority, use, now_ns);
  PeerCertificate peer;
  peer.verdict = PeerCertificate::Verdict::foreign;
  peer.problem = "does not parse";
  return peer;
}

Bytes certificate_key_hash(ByteView der) {
  const X509Ptr certificate = parse_certificate(der);
  return certificate ? hash_of(X509_get0_pubkey(certificate.get())) : Bytes();
}

std::string authority_cloud(ByteView der) {
  const X509Ptr certificate = parse_certificate(der);
  char name[128] = {};
  if (!certificate || X509_NAME_get_text_by_NID(X509_get_subject_name(certificate.get()),
                                                NID_commonName, name, sizeof name) <= 0)
    return {};
  const std::string_view text(name);
  return text.starts_with(kAuthorityName) ? std::string(text.substr(kAuthorityName.size()))
                                          : std::string();
}

}  // namespace datacloud
