// Records, digests and signatures; the files are in audit_bundle_file.cc.
#include <fmt/format.h>
#include <openssl/evp.h>

#include <cstdlib>

#include "common/audit/audit_bundle.h"
#include "common/codes/erasure_code.h"
#include "common/store/object_store.h"
#include "common/tags/audit_tag.h"

namespace datacloud {
namespace {

constexpr size_t kDigestBytes = 32;
constexpr size_t kFingerprintBytes = 16;

Bytes sha256(std::string_view bytes) {
  Bytes digest(kDigestBytes);
  if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), nullptr, EVP_sha256(), nullptr) != 1) {
    std::abort();
  }
  return digest;
}

std::string u64_le(uint64_t value) {
  std::string text(8, 0);
  for (int i = 0; i < 8; ++i) text[static_cast<size_t>(i)] = static_cast<char>(value >> (8 * i));
  return text;
}

std::string signed_text(std::string_view header, uint64_t stripes, std::string_view state) {
  return std::string("datacloud audit bundle 1\n")
      .append(as_text(sha256(header)))
      .append(u64_le(stripes))
      .append(state);
}

Error bad_record(StripeId id, const std::string& what) {
  return Error(Errc::corrupt, fmt::format("the bundle's record of stripe {}: {}", id, what));
}

}  // namespace

AuditStateDigest::AuditStateDigest()
    : context_(EVP_MD_CTX_new(), [](void* p) { EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(p)); }) {
  auto* context = static_cast<EVP_MD_CTX*>(context_.get());
  if (context == nullptr || EVP_DigestInit_ex(context, EVP_sha256(), nullptr) != 1) std::abort();
}

void AuditStateDigest::add(StripeId id, std::string_view record) {
  auto* context = static_cast<EVP_MD_CTX*>(context_.get());
  const std::string prefix = u64_le(id) + u64_le(record.size());
  if (EVP_DigestUpdate(context, prefix.data(), prefix.size()) != 1 ||
      EVP_DigestUpdate(context, record.data(), record.size()) != 1) {
    std::abort();
  }
  ++stripes_;
}

Bytes AuditStateDigest::finish() {
  Bytes digest(kDigestBytes);
  auto* context = static_cast<EVP_MD_CTX*>(context_.get());
  if (EVP_DigestFinal_ex(context, digest.data(), nullptr) != 1) std::abort();
  return digest;
}

std::string audit_fingerprint(std::string_view record) {
  return std::string(as_text(sha256(record)).substr(0, kFingerprintBytes));
}

pb::AuditBundleEnd seal_audit_bundle(const SigningKey& key, std::string_view header,
                                     AuditStateDigest&& digest) {
  pb::AuditBundleEnd end;
  end.set_stripes(digest.stripes());
  end.set_state(std::string(as_text(digest.finish())));
  end.set_signature(
      std::string(as_text(key.sign(as_bytes(signed_text(header, end.stripes(), end.state()))))));
  return end;
}

bool audit_bundle_sealed_by(ByteView signer, std::string_view header,
                            const pb::AuditBundleEnd& end) {
  return signature_valid(signer, as_bytes(signed_text(header, end.stripes(), end.state())),
                         as_bytes(end.signature()));
}

std::string audit_record(const pb::Stripe& stripe, const ShardNamer& namer) {
  pb::AuditedStripe out;
  out.set_id(stripe.id());
  out.set_code(stripe.code());
  out.set_parity_bytes(stripe.parity_bytes());
  for (int c = 0; c < stripe.shards_size(); ++c) {
    const auto& shard = stripe.shards(c);
    auto* to = out.add_shards();
    to->set_site(shard.site());
    to->set_state(shard.state());
    if (shard.state() != pb::SHARD_PRESENT) continue;
    to->set_instance(shard.instance());
    to->set_bytes(shard.bytes());
    *to->mutable_versions() = shard.versions();
    to->set_object(namer.object_name({stripe.id(), static_cast<uint8_t>(c), shard.instance()}));
  }
  return out.SerializeAsString();
}

result<AuditedStripe> audited_stripe(StripeId id, std::string_view record) {
  pb::AuditedStripe in;
  if (!in.ParseFromArray(record.data(), static_cast<int>(record.size())) || in.id() != id) {
    return failure(bad_record(id, "it does not parse"));
  }
  const auto code = make_erasure_code(in.code());
  if (!code || code.value()->n() != in.shards_size()) {
    return failure(bad_record(id, "its code is not known; install the daemon's version"));
  }
  if (in.parity_bytes() > kObjectBytesMax || id > kStripeIdMax) {
    return failure(bad_record(id, "out of bounds"));
  }
  AuditedStripe out;
  out.stripe.set_id(id);
  out.stripe.set_code(in.code());
  out.stripe.set_parity_bytes(in.parity_bytes());
  for (const auto& shard : in.shards()) {
    auto* to = out.stripe.add_shards();
    to->set_site(shard.site());
    to->set_state(shard.state());
    out.objects.push_back(shard.object());
    if (shard.state() != pb::SHARD_PRESENT) continue;
    if (!valid_object_name(shard.object()) || shard.bytes() > in.parity_bytes()) {
      return failure(bad_record(id, "a shard is out of bounds"));
    }
    to->set_instance(shard.instance());
    to->set_bytes(shard.bytes());
    uint64_t above = 0;
    for (const auto& run : shard.versions()) {
      if (run.first_block() < above || (above == 0 && run.first_block() != 0)) {
        return failure(bad_record(id, "its block versions are not in order"));
      }
      above = run.first_block() + 1;
    }
    *to->mutable_versions() = shard.versions();
  }
  return out;
}

}  // namespace datacloud
