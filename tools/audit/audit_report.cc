// Signing, checking and keeping reports.
#include "tools/audit/audit_report.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "common/base/hex.h"

namespace datacloud {
namespace {

constexpr std::string_view kKeyLine = "datacloud auditor key 1 ";
constexpr size_t kKeyFileBytesMax = 4096;

Error os_error(const char* what, const std::filesystem::path& path) {
  return Error::posix(errno, fmt::format("cannot {} {}", what, path.string()));
}

std::string signed_text(const ReportJson& report) {
  return "datacloud audit report 1\n" +
         report.dump(-1, ' ', true, ReportJson::error_handler_t::replace);
}

class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

result<void> write_new(const std::filesystem::path& path, const std::string& text, mode_t mode) {
  const File file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
  if (file.get() < 0) return failure(os_error("create", path));
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::write(file.get(), text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failure(os_error("write", path));
    done += static_cast<size_t>(n);
  }
  if (::fsync(file.get()) != 0) return failure(os_error("sync", path));
  return success();
}

}  // namespace

result<std::string> read_text_file(const std::filesystem::path& path, size_t bytes_max) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return failure(os_error("open", path));
  std::string text(bytes_max + 1, 0);
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() <= bytes_max) return text;
  return failure(Errc::invalid,
                 fmt::format("{} is larger than {} bytes", path.string(), bytes_max));
}

result<void> write_text_file(const std::filesystem::path& path, const std::string& text) {
  const std::filesystem::path temporary = path.string() + fmt::format(".{}.tmp", ::getpid());
  auto written = write_new(temporary, text, 0644);
  if (written && ::rename(temporary.c_str(), path.c_str()) != 0) {
    written = failure(os_error("create", path));
  }
  if (!written) ::unlink(temporary.c_str());
  return written;
}

result<SigningKey> load_auditor_key(const std::filesystem::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    if (errno != ENOENT) return failure(os_error("read", path));
    const SecretKey fresh = SecretKey::random();
    TRY(write_new(path, std::string(kKeyLine) + to_hex(fresh.view()) + "\n", 0600));
    return SigningKey(fresh);
  }
  if ((info.st_mode & 077) != 0) {
    return failure(Errc::invalid, fmt::format("the auditor's key {} is readable by others: chmod "
                                              "600 it, or move it away and a new one is made",
                                              path.string()));
  }
  TRY(const auto text, read_text_file(path, kKeyFileBytesMax));
  Bytes seed(32);
  if (!text.starts_with(kKeyLine) || !text.ends_with('\n') ||
      !from_hex(std::string_view(text).substr(kKeyLine.size(), text.size() - kKeyLine.size() - 1),
                seed)) {
    return failure(Errc::invalid, fmt::format("{} is not an auditor's key; move it away and a new "
                                              "one is made",
                                              path.string()));
  }
  return SigningKey(SecretKey(ByteView(seed)));
}

std::string sign_report(const ReportJson& report, const SigningKey& key) {
  const ReportJson whole{{"report", report},
                         {"auditor", to_hex(key.public_key())},
                         {"signature", to_hex(key.sign(as_bytes(signed_text(report))))}};
  return whole.dump(2, ' ', true, ReportJson::error_handler_t::replace) + "\n";
}

result<SignedReport> verify_report(const std::string& text) {
  const auto whole = ReportJson::parse(text, nullptr, false);
  const auto text_of = [&](const char* name) {
    return whole.contains(name) && whole[name].is_string() ? whole[name].get<std::string>() : "";
  };
  if (!whole.is_object() || !whole.contains("report") || !whole["report"].is_object()) {
    return failure(Errc::corrupt, "this is not an audit report (`datacloud-audit` makes one)");
  }
  Bytes auditor(kPublicKeyBytes), signature(kSignatureBytes);
  if (!from_hex(text_of("auditor"), auditor) || !from_hex(text_of("signature"), signature) ||
      !signature_valid(auditor, as_bytes(signed_text(whole["report"])), signature)) {
    return failure(Errc::corrupt, "the signature of the report does not match its contents");
  }
  return SignedReport{whole["report"], text_of("auditor")};
}

}  // namespace datacloud
