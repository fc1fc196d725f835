// What a third-party auditor is given: per site the audit key, per stripe what its shards must be
// and what they are called at their sites. No data key, no name key, no file name, no slot.
//
// A bundle is a file (audit.proto, docs/audit.md) that the daemon has signed. The signature is over
// the state, i.e. all records in order, not over the file: a refresh holds only what has changed
// since some bundle and is signed for the state that it leads to.
//
// Thread safety: none.
#pragma once

#include <filesystem>
#include <functional>
#include <iosfwd>
#include <memory>
#include <optional>
#include <string>

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/base/ids.h"
#include "common/crypto/signing.h"
#include "common/proto/audit.pb.h"

namespace datacloud {

inline constexpr uint32_t kAuditBundleFormat = 1;
inline constexpr size_t kAuditFrameBytesMax = 4u << 20;
inline constexpr size_t kAuditRecordBytesMax = 256u << 10;  // of one stripe
inline constexpr int kAuditBundleSitesMax = 256;

// Digest of a state: its records in ascending order of stripes.
class AuditStateDigest {
 public:
  AuditStateDigest();
  void add(StripeId, std::string_view record);
  uint64_t stripes() const { return stripes_; }
  Bytes finish();

 private:
  std::shared_ptr<void> context_;
  uint64_t stripes_ = 0;
};
// Of one record: tells a daemon what the asker has already.
std::string audit_fingerprint(std::string_view record);

// The end of a bundle, signed.
pb::AuditBundleEnd seal_audit_bundle(const SigningKey&, std::string_view header,
                                     AuditStateDigest&&);
bool audit_bundle_sealed_by(ByteView signer, std::string_view header, const pb::AuditBundleEnd&);

// A new file at `path` (mode 0600: it holds audit keys), there only once finish() has returned.
class AuditBundleWriter {
 public:
  static result<std::unique_ptr<AuditBundleWriter>> create(const std::filesystem::path&);
  ~AuditBundleWriter();
  result<void> add(const pb::AuditBundleFrame&);
  // Durable. exists: there is such a file.
  result<void> finish();

 private:
  AuditBundleWriter() = default;
  std::filesystem::path path_, temporary_;
  int fd_ = -1;
  std::string buffer_;
};

// The frames of a bundle, one by one, checked for form and order, not for their signature.
class AuditBundleReader {
 public:
  // corrupt: no bundle. The stream must outlive the reader.
  static result<AuditBundleReader> open(std::istream&);
  const pb::AuditBundleHeader& header() const { return header_; }
  const std::string& header_bytes() const { return header_bytes_; }
  // nullopt: the end has been reached, see end().
  result<std::optional<pb::AuditBundlePage::Change>> next();
  const pb::AuditBundleEnd& end() const { return end_; }

 private:
  explicit AuditBundleReader(std::istream& in) : in_(&in) {}
  result<pb::AuditBundleFrame> read_frame();

  std::istream* in_;
  pb::AuditBundleHeader header_;
  std::string header_bytes_;
  pb::AuditBundlePage page_;
  int at_ = 0;
  bool ended_ = false;
  StripeId above_ = 0;  // the next stripe's id is at least this
  pb::AuditBundleEnd end_;
};

// A bundle's state: a whole bundle, perhaps brought up to date by one refresh.
class AuditBundle {
 public:
  // Verifies everything. `refresh` empty: without. corrupt: not what `signer` has signed; stale:
  // the refresh is for another bundle.
  static result<AuditBundle> open(const std::filesystem::path& bundle,
                                  const std::filesystem::path& refresh, ByteView signer);
  const pb::AuditBundleHeader& header() const { return header_; }
  const pb::AuditBundleEnd& end() const { return end_; }
  // In ascending order; stops at the first failure of `visit`.
  using Visit = std::function<result<void>(StripeId, const std::string& record)>;
  result<void> for_each(const Visit&) const;

 private:
  std::filesystem::path bundle_, refresh_;
  pb::AuditBundleHeader header_;
  pb::AuditBundleEnd end_;
};

// The stripe of a record, as the checks of shards want it (without slots), and the names of its
// shards' objects by column. corrupt: not a stripe of a known code, or out of bounds.
struct AuditedStripe {
  pb::Stripe stripe;
  std::vector<std::string> objects;
};
result<AuditedStripe> audited_stripe(StripeId, std::string_view record);
// The record of a stripe.
std::string audit_record(const pb::Stripe&, const ShardNamer&);

}  // namespace datacloud
