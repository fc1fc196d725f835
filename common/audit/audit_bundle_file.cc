// Bundles as files: frames in, frames out, and a bundle with its refresh as one sorted stream.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <istream>

#include "common/audit/audit_bundle.h"

namespace datacloud {
namespace {

constexpr std::string_view kMagic = "datacloud audit bundle 1\n";
constexpr size_t kBufferBytes = 1u << 20;

Error damaged(const std::string& what) {
  return Error(Errc::corrupt, "the audit bundle is damaged: " + what);
}

Error os_error(const char* what, const std::filesystem::path& path) {
  return Error::posix(errno, fmt::format("cannot {} {}", what, path.string()));
}

result<void> write_all(int fd, std::string_view text, const std::filesystem::path& path) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failure(os_error("write", path));
    text.remove_prefix(static_cast<size_t>(n));
  }
  return success();
}

}  // namespace

result<std::unique_ptr<AuditBundleWriter>> AuditBundleWriter::create(
    const std::filesystem::path& path) {
  std::unique_ptr<AuditBundleWriter> writer(new AuditBundleWriter);
  writer->path_ = path;
  writer->temporary_ = path.string() + fmt::format(".{}.tmp", ::getpid());
  writer->fd_ = ::open(writer->temporary_.c_str(),
                       O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (writer->fd_ < 0) return failure(os_error("create", writer->temporary_));
  writer->buffer_ = kMagic;
  return writer;
}

AuditBundleWriter::~AuditBundleWriter() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

result<void> AuditBundleWriter::add(const pb::AuditBundleFrame& frame) {
  const std::string bytes = frame.SerializeAsString();
  if (bytes.size() > kAuditFrameBytesMax) {
    return failure(Errc::invalid, "a frame of an audit bundle is too large");
  }
  const auto size = static_cast<uint32_t>(bytes.size());
  for (int i = 0; i < 4; ++i) buffer_.push_back(static_cast<char>(size >> (8 * i)));
  buffer_ += bytes;
  if (buffer_.size() < kBufferBytes) return success();
  TRY(write_all(fd_, buffer_, temporary_));
  buffer_.clear();
  return success();
}

result<void> AuditBundleWriter::finish() {
  TRY(write_all(fd_, buffer_, temporary_));
  if (::fsync(fd_) != 0) return failure(os_error("sync", temporary_));
  if (::link(temporary_.c_str(), path_.c_str()) != 0) return failure(os_error("create", path_));
  ::close(std::exchange(fd_, -1));
  ::unlink(temporary_.c_str());
  return success();
}

result<AuditBundleReader> AuditBundleReader::open(std::istream& in) {
  AuditBundleReader reader(in);
  std::string magic(kMagic.size(), 0);
  in.read(magic.data(), static_cast<std::streamsize>(magic.size()));
  if (!in || magic != kMagic) {
    return failure(Errc::corrupt, "this is no audit bundle (`datacloud auditor export` makes one)");
  }
  TRY(auto frame, reader.read_frame());
  if (frame.part_case() != pb::AuditBundleFrame::kHeader ||
      !reader.header_.ParseFromString(frame.header())) {
    return failure(damaged("it has no header"));
  }
  const auto& header = reader.header_;
  if (header.format() != kAuditBundleFormat) {
    return failure(Errc::unsupported,
                   fmt::format("audit bundle of format {}, this program knows {}; install the "
                               "daemon's version",
                               header.format(), kAuditBundleFormat));
  }
  if (header.sites_size() > kAuditBundleSitesMax) return failure(damaged("too many sites"));
  for (const auto& site : header.sites()) {
    if (site.audit_key().size() != 32) return failure(damaged("an audit key of another length"));
  }
  reader.header_bytes_ = frame.header();
  return reader;
}

result<pb::AuditBundleFrame> AuditBundleReader::read_frame() {
  std::array<char, 4> length;
  in_->read(length.data(), length.size());
  uint32_t size = 0;
  for (size_t i = 0; i < 4; ++i) size |= uint32_t{static_cast<uint8_t>(length[i])} << (8 * i);
  if (!*in_ || size > kAuditFrameBytesMax) return failure(damaged("it is cut short"));
  std::string bytes(size, 0);
  in_->read(bytes.data(), size);
  pb::AuditBundleFrame frame;
  if (!*in_ || !frame.ParseFromString(bytes)) return failure(damaged("a frame does not parse"));
  return frame;
}

result<std::optional<pb::AuditBundlePage::Change>> AuditBundleReader::next() {
  using Change = std::optional<pb::AuditBundlePage::Change>;
  while (!ended_ && at_ == page_.changes_size()) {
    TRY(auto frame, read_frame());
    at_ = 0;
    page_.Clear();
    if (frame.has_page()) {
      page_ = std::move(*frame.mutable_page());
    } else if (frame.has_end()) {
      end_ = std::move(*frame.mutable_end());
      ended_ = true;
    } else {
      return failure(damaged("an unexpected frame"));
    }
  }
  if (ended_) return Change();
  auto& change = *page_.mutable_changes(at_++);
  if (change.stripe() < above_ || change.stripe() > kStripeIdMax) {
    return failure(damaged("its stripes are not in order"));
  }
  if (change.record().size() > kAuditRecordBytesMax) return failure(damaged("a record too large"));
  above_ = change.stripe() + 1;
  return Change(std::move(change));
}

namespace {

// A bundle and its refresh as one stream of records.
class Merged {
 public:
  result<void> open(const std::filesystem::path& bundle, const std::filesystem::path& refresh) {
    TRY(open_one(bundle, bundle_file_, bundle_));
    if (!refresh.empty()) {
      TRY(open_one(refresh, refresh_file_, refresh_));
      if (refresh_->header().base().empty()) {
        return failure(Errc::invalid, refresh.string() + " is a whole bundle, not a refresh");
      }
    }
    if (!bundle_->header().base().empty()) {
      return failure(Errc::invalid, bundle.string() +
                                        " is a refresh: give the bundle that it refreshes, and it "
                                        "with --refresh");
    }
    TRY(old_, bundle_->next());
    if (refresh_) {
      TRY(change_, refresh_->next());
    }
    return success();
  }
  // `visit_base` sees the bundle without its refresh.
  result<void> run(const AuditBundle::Visit& visit, AuditStateDigest* base) {
    while (old_ || change_) {
      if (old_ && old_->record().empty()) return failure(damaged("a record is empty"));
      const bool newer = change_ && (!old_ || change_->stripe() <= old_->stripe());
      const auto& record = newer ? *change_ : *old_;
      if (!record.record().empty()) {
        TRY(visit(record.stripe(), record.record()));
      }
      if (old_ && (!newer || old_->stripe() == change_->stripe())) {
        if (base != nullptr) base->add(old_->stripe(), old_->record());
        const bool same = newer;
        TRY(old_, bundle_->next());
        if (!same) continue;
      }
      if (newer) {
        TRY(change_, refresh_->next());
      }
    }
    return success();
  }
  const AuditBundleReader& bundle() const { return *bundle_; }
  const AuditBundleReader* refresh() const { return refresh_ ? &*refresh_ : nullptr; }

 private:
  static result<void> open_one(const std::filesystem::path& path, std::ifstream& file,
                               std::optional<AuditBundleReader>& reader) {
    file.open(path, std::ios::binary);
    if (!file) return failure(os_error("open", path));
    auto opened = AuditBundleReader::open(file);
    if (!opened) return failure(opened.error().in(path.string()));
    reader = std::move(opened.value());
    return success();
  }

  std::ifstream bundle_file_, refresh_file_;
  std::optional<AuditBundleReader> bundle_, refresh_;
  std::optional<pb::AuditBundlePage::Change> old_, change_;
};

result<void> check_seal(const AuditBundleReader& reader, ByteView signer, uint64_t stripes,
                        const Bytes& state, const std::string& name) {
  const auto& end = reader.end();
  if (end.stripes() == stripes && as_bytes(end.state()).size() == state.size() &&
      std::equal(state.begin(), state.end(), as_bytes(end.state()).begin()) &&
      audit_bundle_sealed_by(signer, reader.header_bytes(), end)) {
    return success();
  }
  return failure(Errc::corrupt, name +
                                    ": its signature is not the given signer's, or it was changed; "
                                    "ask the cloud's administrator for it again");
}

}  // namespace

result<AuditBundle> AuditBundle::open(const std::filesystem::path& bundle,
                                      const std::filesystem::path& refresh, ByteView signer) {
  AuditBundle out;
  out.bundle_ = bundle;
  out.refresh_ = refresh;
  Merged merged;
  TRY(merged.open(bundle, refresh));
  AuditStateDigest base, state;
  TRY(merged.run(
      [&](StripeId id, const std::string& record) -> result<void> {
        state.add(id, record);
        return success();
      },
      &base));
  const uint64_t base_stripes = base.stripes(), stripes = state.stripes();
  const Bytes base_digest = base.finish();
  TRY(check_seal(merged.bundle(), signer, base_stripes, base_digest, bundle.string()));
  const auto* newer = merged.refresh();
  if (newer != nullptr) {
    if (newer->header().base() != merged.bundle().end().state() ||
        newer->header().cloud_uuid() != merged.bundle().header().cloud_uuid()) {
      return failure(Errc::stale, refresh.string() + " does not refresh " + bundle.string() +
                                      " but another bundle");
    }
    TRY(check_seal(*newer, signer, stripes, state.finish(), refresh.string()));
  }
  out.header_ = newer != nullptr ? newer->header() : merged.bundle().header();
  out.end_ = newer != nullptr ? newer->end() : merged.bundle().end();
  return out;
}

result<void> AuditBundle::for_each(const Visit& visit) const {
  Merged merged;
  TRY(merged.open(bundle_, refresh_));
  return merged.run(visit, nullptr);
}

}  // namespace datacloud
