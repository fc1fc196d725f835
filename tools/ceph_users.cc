// Running ceph(8) (ceph_users.h).
#include "tools/ceph_users.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace datacloud {
namespace {

constexpr size_t kOutputBytesMax = 64 << 10;
constexpr const char* kPatienceS = "20";  // of ceph(8), for a cluster that does not answer

// For a shell; words of these commands have no quotes of their own.
std::string quoted(const std::string& word) {
  const bool plain = std::all_of(word.begin(), word.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || std::strchr("-_./=:@%+", c) != nullptr;
  });
  return plain ? word : "'" + word + "'";
}

class Pipe {
 public:
  Pipe() {
    if (::pipe2(ends_, O_CLOEXEC) != 0) ends_[0] = ends_[1] = -1;
  }
  ~Pipe() {
    close_end(0);
    close_end(1);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  int in() const { return ends_[1]; }
  bool good() const { return ends_[0] >= 0; }
  // Until the other side has closed it.
  std::string read_all() {
    close_end(1);
    std::string out;
    char buffer[4096];
    for (;;) {
      const ssize_t got = ::read(ends_[0], buffer, sizeof buffer);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return out;
      if (out.size() < kOutputBytesMax) out.append(buffer, static_cast<size_t>(got));
    }
  }

 private:
  void close_end(int end) {
    if (ends_[end] >= 0) ::close(std::exchange(ends_[end], -1));
  }
  int ends_[2] = {-1, -1};
};

// Standard output of a program that ended with status 0; else its last line of either.
result<std::string> output_of(const std::vector<std::string>& words) {
  Pipe both;
  if (!both.good()) return failure(Error::posix(errno, "cannot make a pipe"));
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, both.in(), 1);
  ::posix_spawn_file_actions_adddup2(&actions, both.in(), 2);
  std::vector<char*> arguments;
  for (const auto& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  pid_t child = 0;
  const int error =
      ::posix_spawnp(&child, words[0].c_str(), &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0)
    return failure(Error::posix(
        error, words[0] + ": " + std::strerror(error) + "; Debian's package ceph-common has it"));
  std::string out = both.read_all();
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return out;
  while (!out.empty() && out.back() == '\n') out.pop_back();
  return failure(Errc::invalid, out.substr(out.rfind('\n') + 1));
}

}  // namespace

std::vector<CephUser> ceph_users_of(const Config& config, const std::string& node,
                                    const std::string& cloud_uuid, bool read_only) {
  std::vector<CephUser> users;
  for (const auto& site : config.sites) {
    if (site.store != "rados") continue;
    users.push_back(
        {site.name, site.conf, site.user + "." + node,
         fmt::format("allow {} pool={} namespace={}", read_only ? "r class-read" : "rwx", site.pool,
                     site.nspace.empty() ? cloud_uuid : site.nspace),
         ""});
  }
  return users;
}

std::string creation_command(const CephUser& user, const std::string& keyring) {
  return fmt::format("ceph --conf {} auth get-or-create {} mon 'allow r' osd '{}'{}",
                     quoted(user.conf.string()), user.entity, user.capabilities,
                     keyring.empty() ? "" : " -o " + quoted(keyring));
}

std::string removal_command(const CephUser& user) {
  return fmt::format("ceph --conf {} auth rm {}", quoted(user.conf.string()), user.entity);
}

result<CephAdministrator> CephAdministrator::make(const std::vector<std::string>& keyrings,
                                                  const std::vector<CephUser>& users) {
  CephAdministrator out;
  for (const auto& word : keyrings) {
    const size_t equals = word.find('=');
    const std::string site = equals == std::string::npos ? "" : word.substr(0, equals);
    const std::string file = equals == std::string::npos ? word : word.substr(equals + 1);
    if (::access(file.c_str(), R_OK) != 0)
      return failure(Error::posix(errno, "--ceph-admin " + file + ": " + std::strerror(errno)));
    if (site.empty()) {
      out.everywhere_ = file;
      continue;
    }
    if (std::none_of(users.begin(), users.end(), [&](const auto& u) { return u.site == site; }))
      return failure(Errc::invalid, "--ceph-admin " + word + ": no RADOS site is named " + site);
    out.of_sites_.emplace_back(site, file);
  }
  for (const auto& user : users) {
    const bool has = std::any_of(out.of_sites_.begin(), out.of_sites_.end(),
                                 [&](const auto& entry) { return entry.first == user.site; });
    if (!has && out.everywhere_.empty())
      return failure(Errc::invalid, "site " + user.site + " needs a keyring, too: --ceph-admin " +
                                        user.site + "=FILE");
  }
  return out;
}

result<std::string> CephAdministrator::run(const CephUser& user,
                                           const std::vector<std::string>& words) const {
  std::string keyring = everywhere_;
  for (const auto& [site, file] : of_sites_)
    if (site == user.site) keyring = file;
  std::vector<std::string> all = {
      "ceph",      "--conf", user.conf.string(),  "--name",  "client.admin",
      "--keyring", keyring,  "--connect-timeout", kPatienceS};
  all.insert(all.end(), words.begin(), words.end());
  auto out = output_of(all);
  if (!out)
    return failure(out.error().in("site " + user.site + ": ceph " + words[0] + " " + words[1]));
  return out;
}

result<void> CephAdministrator::create(CephUser& user) const {
  TRY(run(user,
          {"auth", "get-or-create", user.entity, "mon", "allow r", "osd", user.capabilities}));
  TRY(user.key, run(user, {"auth", "print-key", user.entity}));
  while (!user.key.empty() && std::isspace(static_cast<unsigned char>(user.key.back())) != 0)
    user.key.pop_back();
  const bool whole = user.key.size() >= 20 && user.key.size() <= 200 &&
                     std::all_of(user.key.begin(), user.key.end(), [](unsigned char c) {
                       return std::isalnum(c) != 0 || c == '+' || c == '/' || c == '=';
                     });
  if (whole) return success();
  return failure(Errc::corrupt, "site " + user.site + ": ceph auth print-key gave no key");
}

result<void> CephAdministrator::remove(const CephUser& user) const {
  TRY(run(user, {"auth", "rm", user.entity}));
  return success();
}

}  // namespace datacloud
