// `datacloud join LINE`: makes this machine a node (docs/nodes.md, "Joining").
//
// The node's own key is made first and kept under a name of the line until all is done, so that
// after a crash, or an answer that got lost, the same line works once more on this machine, and on
// no other.
#include <fmt/format.h>
#include <openssl/crypto.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "common/base/hex.h"
#include "common/config/node_certificate.h"
#include "common/proto/admin.pb.h"
#include "common/rpc/rpc_dial.h"
#include "common/rpc/rpc_exchange.h"
#include "common/tls/join_line.h"
#include "tools/commands.h"
#include "tools/daemon_link.h"
#include "tools/exit_codes.h"
#include "tools/json_text.h"
#include "tools/node_configuration.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

constexpr Duration kAnswerPatience = seconds(30);

result<std::string> read_line_from_stdin() {
  std::string text(kJoinLineBytesMax + 1, '\0');
  const size_t size = std::fread(text.data(), 1, text.size(), stdin);
  if (std::ferror(stdin) != 0) return failure(Error::posix(EIO, "cannot read the line"));
  text.resize(size);
  return text;
}

result<NodeKey> kept_key(const std::filesystem::path& path, bool& made) {
  struct stat st {};
  made = ::lstat(path.c_str(), &st) != 0;
  if (!made) return read_node_key_file(path);
  const NodeKey key = NodeKey::generate();
  std::string pem = key.pem();
  auto written = replace_file(path, pem);
  OPENSSL_cleanse(pem.data(), pem.size());
  if (!written) return failure(written.error());
  return key;
}

// To a daemon whose authority is the line's, and to no other.
result<std::unique_ptr<TlsStream>> dial(const JoinLine& line, Bytes& authority) {
  TlsCredentials credentials;
  credentials.key = invitation_key(line.secret);
  credentials.certificate = make_self_signed(credentials.key);
  TRY(const auto context, TlsContext::make(TlsContext::Side::client, credentials));
  const auto check = [hash = line.authority_hash](const TlsStream& stream) -> result<void> {
    const Bytes shown = stream.authority_shown();
    if (shown.empty() || certificate_key_hash(shown) != hash) {
      return failure(Errc::invalid,
                     "the daemon there has another authority than the line says: it is another "
                     "cloud's daemon, or somebody stands between");
    }
    const auto peer = stream.peer_by(shown, wall_now_ns());
    if (peer.verdict != PeerCertificate::Verdict::good ||
        !peer.identity.roles.has(NodeRole::daemon)) {
      return failure(Errc::invalid, "the daemon's certificate " + peer.problem);
    }
    return success();
  };
  TRY(auto stream, Dial(line.addresses, context, check).wait());
  authority = stream->authority_shown();
  return stream;
}

struct Joined {
  pb::NodeBundle bundle;
  Bytes certificate, authority;
  NodeRoles roles;
  int64_t not_after_ns = 0;
};

result<Joined> ask_to_join(const JoinLine& line, const NodeKey& key) {
  Joined out;
  TRY(const auto stream, dial(line, out.authority));
  pb::Request request;  // id 0: it belongs to the connection
  const Bytes wanted = make_certificate_request(key);
  request.mutable_join()->set_request(std::string(as_text(wanted)));
  request.mutable_join()->set_version(DATACLOUD_VERSION);
  TRY(const auto reply, exchange(*stream, request, kAnswerPatience));
  out.certificate = to_bytes(as_bytes(reply.certificate().certificate()));
  const auto judged =
      judge_certificate(out.certificate, out.authority, CertificateUse::client, wall_now_ns());
  if (judged.verdict != PeerCertificate::Verdict::good || judged.key_hash != key.hash() ||
      judged.identity.name != line.name) {
    return failure(Errc::corrupt,
                   "the daemon has sent a certificate that this machine cannot use: it " +
                       (judged.problem.empty() ? "is for another" : judged.problem));
  }
  out.roles = judged.identity.roles;
  out.not_after_ns = judged.not_after_ns;
  TRY(auto plain, open_bundle(line.secret, line.name, as_bytes(reply.certificate().sealed())));
  const bool whole = out.bundle.ParseFromArray(plain.data(), static_cast<int>(plain.size()));
  OPENSSL_cleanse(plain.data(), plain.size());
  const size_t key_bytes = out.bundle.data_key().size();
  const std::string& name = out.bundle.cloud_name();
  if (!whole || out.bundle.cloud_uuid() != judged.identity.cloud_uuid || name.empty() ||
      name.find('/') != std::string::npos || name.starts_with('.') ||
      (key_bytes != 0 && key_bytes != 32)) {
    return failure(Errc::corrupt,
                   "what was sealed for this node is not whole; install the same "
                   "version on both sides, and make a new line");
  }
  return out;
}

result<void> write_data_key(const std::filesystem::path& path, const pb::NodeBundle& bundle) {
  const KeyFile file{KeyFileKind::data, bundle.cloud_uuid(),
                     SecretKey(as_bytes(bundle.data_key()))};
  const auto there = read_key_file(path, KeyFileKind::data);
  if (there && there.value().cloud_uuid == file.cloud_uuid &&
      CRYPTO_memcmp(there.value().key.view().data(), file.key.view().data(), 32) == 0) {
    return success();
  }
  return write_key_file(path, file);
}

result<PlacedKeyrings> write_files(const JoinLine& line, const Joined& joined,
                                   const NodeFiles& files, const std::filesystem::path& kept) {
  struct stat st {};
  if (::lstat(files.configuration.c_str(), &st) == 0) {
    return failure(Errc::exists,
                   files.configuration.string() +
                       " exists already: move it away, or join with --dir elsewhere. The line "
                       "still works on this machine");
  }
  const bool has_key = !joined.bundle.data_key().empty();
  TRY(auto keyrings, place_keyrings(joined.bundle.configuration(),
                                    files.configuration.parent_path(), joined.bundle.cloud_name()));
  OrganisationOfServers organisation;
  organisation.authorities = joined.bundle.authorities();
  organisation.daemon = {joined.bundle.daemon_identity().begin(),
                         joined.bundle.daemon_identity().end()};
  const std::string text = node_configuration(joined.bundle.cloud_name(), line.name, line.addresses,
                                              files, has_key, keyrings.shared, organisation);
  TRY(parse_config(text, files.configuration));
  if (has_key) {
    TRY(write_data_key(files.data_key, joined.bundle));
  }
  for (auto& keyring : keyrings.files) {
    if (keyring.text.empty()) continue;
    TRY(replace_file(keyring.path, keyring.text));
    OPENSSL_cleanse(keyring.text.data(), keyring.text.size());
  }
  TRY(replace_file(files.authority, certificate_pem(joined.authority)));
  if (!organisation.authorities.empty()) {
    TRY(replace_file(files.organisation, organisation.authorities));
  }
  TRY(replace_file(files.certificate, certificate_pem(joined.certificate)));
  // A link, not a new name: until the configuration is there, the line has to find its key again.
  ::unlink(files.key.c_str());
  if (::link(kept.c_str(), files.key.c_str()) != 0)
    return failure(Error::posix(errno, "cannot create " + files.key.string()));
  TRY(replace_file(files.configuration, text));
  return keyrings;
}

result<void> join(const CommandContext& context, std::string text,
                  const std::filesystem::path& directory) {
  if (text == "-") {
    TRY(text, read_line_from_stdin());
  }
  auto parsed = parse_join_line(text);
  OPENSSL_cleanse(text.data(), text.size());
  if (!parsed) return failure(parsed.error());
  const JoinLine& line = parsed.value();
  std::error_code ec;
  if (!std::filesystem::exists(directory, ec) &&
      !std::filesystem::create_directories(directory, ec)) {
    return failure(Error::posix(ec.value(), "cannot create directory " + directory.string()));
  }
  const auto kept =
      directory /
      ("join-" + to_hex(ByteView(invitation_key(line.secret).hash()).first(8)) + ".key");
  bool made = false;
  TRY(const NodeKey key, kept_key(kept, made));
  auto asked = ask_to_join(line, key);
  if (!asked) {
    // Turned away: this key was taken for nothing. After any other failure the line may be bound to
    // it already.
    if (made && asked.error().errno_value() == EACCES) ::unlink(kept.c_str());
    return failure(asked.error().in("node " + line.name + " cannot join"));
  }
  Joined& joined = asked.value();
  const auto files = node_files(directory, joined.bundle.cloud_name());
  auto written = write_files(line, joined, files, kept);
  OPENSSL_cleanse(joined.bundle.mutable_data_key()->data(), joined.bundle.data_key().size());
  auto* shared = joined.bundle.mutable_configuration();
  OPENSSL_cleanse(shared->data(), shared->size());
  if (!written) return failure(written.error());
  // With its own certificate: from now on nobody can use the line.
  CommandContext node = context;
  node.config = files.configuration;
  TRY(const auto link, connect_to_daemon(node));
  ::unlink(kept.c_str());
  const std::string cloud = joined.bundle.cloud_name();
  if (context.json) {
    fmt::print("{}", json_text({{"cloud", {{"name", cloud}, {"uuid", joined.bundle.cloud_uuid()}}},
                                {"node", line.name},
                                {"roles", joined.roles.names()},
                                {"configuration", files.configuration.string()},
                                {"not_after", joined.not_after_ns / kNsPerSecond}}));
    return success();
  }
  fmt::print("node      {} of the cloud {}: {}\nfiles     {}\n", line.name, printable(cloud),
             joined.roles.text(), files.configuration.string());
  for (const auto& keyring : written.value().files)
    if (keyring.text.empty())
      fmt::print("needed    {}: the keyring of {}, by the commands that `node add` has shown\n",
                 keyring.path.string(), keyring.entity);
  const bool standard = directory == "/etc/datacloud";
  if (joined.roles.has(NodeRole::mount) || joined.roles.has(NodeRole::mount_ro))
    fmt::print("next      mount -t datacloud {} MOUNTPOINT\n",
               standard ? cloud : files.configuration.string());
  else
    fmt::print("next      datacloud --config {} status\n", files.configuration.string());
  return success();
}

}  // namespace

int run_join(const CommandContext& context, const std::string& line, const std::string& directory) {
  const auto done = join(context, line, std::filesystem::absolute(directory).lexically_normal());
  return done ? kExitOk : report_failure(done.error());
}

}  // namespace datacloud
