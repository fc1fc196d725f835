// `datacloud key backup | verify | info | restore`: care for the two files without which all data
// is lost. Nothing here changes a key, and no key file that exists is ever overwritten.
#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/crypto.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <optional>

#include "common/site/site_set.h"
#include "tools/commands.h"
#include "tools/exit_codes.h"
#include "tools/json_text.h"
#include "tools/key_backup.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

constexpr size_t kBackupBytesMax = 64 << 10;

struct KeyPlace {
  KeyFileKind kind;
  const char* name;
  const char* use;
  std::filesystem::path path;
};

std::array<KeyPlace, 2> places(const Config& config) {
  return {KeyPlace{KeyFileKind::data, "data", "mounts read and write file contents with it",
                   config.keys.data},
          KeyPlace{KeyFileKind::service, "service", "the daemon cannot find any object without it",
                   config.keys.service}};
}

// Of the machine that has both keys.
result<Config> load_own_config(const CommandContext& context) {
  TRY(auto config, load_config(context.config));
  if (!config.node.joined()) return config;
  return failure(Errc::invalid, context.config.string() +
                                    " is the configuration of a node: care for the keys where the "
                                    "daemon runs");
}

result<std::string> read_backup_text(const std::string& file) {
  FILE* in = file == "-" ? stdin : std::fopen(file.c_str(), "re");
  if (in == nullptr) return failure(Error::posix(errno, "cannot read the backup " + file));
  std::string text(kBackupBytesMax + 1, '\0');
  const size_t size = std::fread(text.data(), 1, text.size(), in);
  const bool failed = std::ferror(in) != 0;
  if (in != stdin) std::fclose(in);
  if (failed) return failure(Error::posix(EIO, "cannot read the backup " + file));
  text.resize(size);
  return text;
}

result<std::vector<KeyFile>> read_backup(const std::string& file) {
  TRY(auto text, read_backup_text(file));
  auto keys = read_key_backup(text);
  OPENSSL_cleanse(text.data(), text.size());
  if (!keys) return failure(keys.error().in(file == "-" ? "standard input" : file));
  return keys;
}

// What the sites' markers say about a cloud's UUID.
struct SitesView {
  size_t ours = 0, silent = 0;
  std::vector<std::string> problems;
};

SitesView ask_sites(const Config& config, const std::string& uuid) {
  SitesView view;
  for (const auto& site : config.sites) {
    const auto marker = read_store_marker(site, uuid);
    if (!marker) {
      view.silent++;
    } else if (marker.value().cloud_uuid == uuid) {
      view.ours++;
    } else {
      view.problems.push_back(fmt::format("site {} belongs to cloud {} ({}), the key to cloud {}",
                                          site.name, marker.value().cloud_uuid,
                                          marker.value().cloud_name, uuid));
    }
  }
  return view;
}

result<std::string> backup_text(const Config& config) {
  std::string text =
      "Data Cloud key backup\n"
      "=====================\n"
      "WHOEVER LOSES THESE KEYS LOSES ALL DATA of the cloud: no site and nobody else can restore\n"
      "them. Whoever has them, and a copy of the sites, can read everything. Keep this page safe\n"
      "from fire and theft, and away from the machines. To make key files of it:\n"
      "  datacloud --config FILE key restore -      and type the numbered lines\n"
      "I and L are read as 1, O as 0; capitals do not matter.\n";
  for (const auto& place : places(config)) {
    TRY(const auto key, read_key_file(place.path, place.kind));
    TRY(auto one, print_key_backup(key, config.cloud.name, place.path.string()));
    text += "\n" + one;
    OPENSSL_cleanse(one.data(), one.size());
  }
  return text;
}

result<void> write_backup(const std::string& output, std::string_view text) {
  const int fd = ::open(output.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) return failure(Error::posix(errno, "cannot create the backup " + output));
  bool written = ::fchmod(fd, 0600) == 0;
  while (written && !text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno != EINTR) written = false;
    if (n > 0) text.remove_prefix(static_cast<size_t>(n));
  }
  written = written && ::fsync(fd) == 0;
  const int error = errno;
  ::close(fd);
  if (written) return success();
  ::unlink(output.c_str());
  return failure(Error::posix(error, "cannot write the backup " + output));
}

const KeyFile* find_kind(const std::vector<KeyFile>& keys, KeyFileKind kind) {
  for (const auto& key : keys)
    if (key.kind == kind) return &key;
  return nullptr;
}

struct Verdict {
  std::vector<std::string> problems;  // of this key
  std::vector<std::string> notes;
};

Verdict verify_key(const Config& config, const KeyPlace& place,
                   const std::optional<std::vector<KeyFile>>& backup) {
  Verdict verdict;
  const auto key = read_key_file(place.path, place.kind);
  if (!key) {
    verdict.problems.push_back(key.error().text());
    return verdict;
  }
  const auto sites = ask_sites(config, key.value().cloud_uuid);
  verdict.problems = sites.problems;
  if (sites.ours > 0)
    verdict.notes.push_back(
        fmt::format("belongs to the cloud of {} of {} sites", sites.ours, config.sites.size()));
  if (sites.silent == config.sites.size())
    verdict.problems.push_back("no site is reachable: whether the key belongs to them is unknown");
  else if (sites.silent > 0)
    verdict.notes.push_back(fmt::format("{} sites are not reachable now", sites.silent));
  if (!backup) return verdict;
  const KeyFile* saved = find_kind(*backup, place.kind);
  if (saved == nullptr)
    verdict.problems.push_back("the backup does not hold it");
  else if (saved->cloud_uuid != key.value().cloud_uuid ||
           CRYPTO_memcmp(saved->key.view().data(), key.value().key.view().data(), 32) != 0)
    verdict.problems.push_back("the backup holds another key (of cloud " + saved->cloud_uuid + ")");
  else
    verdict.notes.push_back("equals its backup");
  return verdict;
}

result<void> restore(const Config& config, const std::vector<KeyFile>& keys) {
  std::vector<std::string> problems;
  for (const auto& key : keys) {
    const auto sites = ask_sites(config, key.cloud_uuid);
    problems.insert(problems.end(), sites.problems.begin(), sites.problems.end());
  }
  if (keys.size() > 1 && keys[0].cloud_uuid != keys[1].cloud_uuid)
    problems.push_back("the keys in the backup are of different clouds");
  if (!problems.empty())
    return failure(Errc::invalid,
                   fmt::format("no key was restored:\n  {}", fmt::join(problems, "\n  ")));
  for (const auto& place : places(config)) {
    const KeyFile* key = find_kind(keys, place.kind);
    if (key == nullptr) continue;
    if (const auto there = read_key_file(place.path, place.kind);
        there && there.value().cloud_uuid == key->cloud_uuid &&
        CRYPTO_memcmp(there.value().key.view().data(), key->key.view().data(), 32) == 0) {
      fmt::print("{:<8}  {} exists already and holds this key\n", place.name, place.path.string());
      continue;
    }
    TRY(write_key_file(place.path, *key));
    fmt::print("{:<8}  {} restored\n", place.name, place.path.string());
  }
  return success();
}

}  // namespace

int run_key_backup(const CommandContext& context, const std::string& output) {
  const auto config = load_own_config(context);
  if (!config) return report_failure(config.error());
  auto text = backup_text(config.value());
  if (!text) return report_failure(text.error());
  result<void> done = success();
  if (output.empty() || output == "-") {
    fmt::print("{}", text.value());
  } else {
    done = write_backup(output, text.value());
  }
  OPENSSL_cleanse(text.value().data(), text.value().size());
  if (!done) return report_failure(done.error());
  if (!output.empty() && output != "-")
    fmt::print(
        "{} holds both keys in readable form: print it, then remove it.\n"
        "Whoever loses the key files and every backup of them loses all data.\n",
        output);
  return kExitOk;
}

int run_key_verify(const CommandContext& context, const std::string& backup_file) {
  const auto config = load_own_config(context);
  if (!config) return report_failure(config.error());
  std::optional<std::vector<KeyFile>> backup;
  if (!backup_file.empty()) {
    auto read = read_backup(backup_file);
    if (!read) return report_failure(read.error());
    backup = std::move(read).value();
  }
  bool good = true;
  Json json = Json::object();
  std::string text;
  for (const auto& place : places(config.value())) {
    const auto verdict = verify_key(config.value(), place, backup);
    good = good && verdict.problems.empty();
    json[place.name] = {{"file", place.path.string()},
                        {"good", verdict.problems.empty()},
                        {"problems", verdict.problems},
                        {"notes", verdict.notes}};
    text += coloured(fmt::format("{:<8}  {}  {}\n", place.name,
                                 verdict.problems.empty() ? "good" : "BAD ", place.path.string()),
                     verdict.problems.empty() ? Colour::good : Colour::bad, colour_wanted());
    for (const auto& problem : verdict.problems) text += "          " + printable(problem) + "\n";
    for (const auto& note : verdict.notes) text += "          " + note + "\n";
  }
  fmt::print("{}", context.json ? json_text(json) : text);
  return good ? kExitOk : kExitFailed;
}

int run_key_info(const CommandContext& context) {
  const auto config = load_own_config(context);
  if (!config) return report_failure(config.error());
  Json json = Json::object();
  std::string text;
  bool good = true;
  for (const auto& place : places(config.value())) {
    const auto key = read_key_file(place.path, place.kind);
    good = good && key.has_value();
    Json entry = {{"file", place.path.string()}, {"use", place.use}};
    text += fmt::format("{:<8}  {}\n          {}\n", place.name, place.path.string(), place.use);
    if (key) {
      const auto print = key_fingerprint(key.value().key);
      entry["cloud"] = key.value().cloud_uuid;
      entry["fingerprint"] = print;
      text += fmt::format("          cloud {}, fingerprint {}\n", key.value().cloud_uuid, print);
    } else {
      entry["problem"] = key.error().text();
      text += "          " + coloured(printable(key.error().text()), Colour::bad, colour_wanted()) +
              "\n";
    }
    json[place.name] = std::move(entry);
  }
  text +=
      "Whoever loses these files and every backup of them loses all data: datacloud key backup\n";
  fmt::print("{}", context.json ? json_text(json) : text);
  return good ? kExitOk : kExitFailed;
}

int run_key_restore(const CommandContext& context, const std::string& backup_file) {
  const auto config = load_own_config(context);
  if (!config) return report_failure(config.error());
  if (backup_file == "-" && ::isatty(STDIN_FILENO))
    fmt::print(stderr, "Type the numbered lines of the backup, then Ctrl-D:\n");
  const auto keys = read_backup(backup_file);
  if (!keys) return report_failure(keys.error());
  const auto done = restore(config.value(), keys.value());
  return done ? kExitOk : report_failure(done.error());
}

}  // namespace datacloud
