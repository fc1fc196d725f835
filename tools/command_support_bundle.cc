// `datacloud support-bundle`: one tar file for somebody who helps, without secrets.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>

#include "tools/exit_codes.h"
#include "tools/support_bundle.h"
#include "tools/tar_archive.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

result<void> write_new(const std::string& path, std::string_view bytes) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return failure(Error::posix(errno, "cannot create " + path));
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int error = errno;
      ::close(fd);
      ::unlink(path.c_str());
      return failure(Error::posix(error, "cannot write " + path));
    }
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  ::close(fd);
  return success();
}

}  // namespace

int run_support_bundle(const CommandContext& context, const std::string& output) {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  const std::string stem =
      fmt::format("datacloud-support-{:04}{:02}{:02}T{:02}{:02}{:02}Z", utc.tm_year + 1900,
                  utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec);
  const std::string path = output.empty() ? stem + ".tar" : output;
  TarArchive archive;
  const auto texts = collect_bundle(context);
  for (const auto& text : texts) archive.add(stem + "/" + text.name, text.contents, now);
  if (auto done = write_new(path, std::move(archive).finish()); !done)
    return report_failure(done.error());
  fmt::print(
      "{}: {} files. It holds no keys, but paths, host names, site names and, in logs,\n"
      "names of files. Check it before you send it: tar -tf {}\n",
      path, texts.size(), path);
  return kExitOk;
}

}  // namespace datacloud
