// `datacloud node add --certificate` and `--fingerprint`: a node whose certificate the
// organisation's own authority has signed (docs/nodes.md). There is no line: what the node needs is
// written into a directory, which the administrator brings there.
#include <fmt/format.h>
#include <openssl/crypto.h>

#include <filesystem>

#include "common/base/hex.h"
#include "common/config/node_certificate.h"
#include "common/tls/organisation.h"
#include "tools/exit_codes.h"
#include "tools/json_text.h"
#include "tools/node_calls.h"
#include "tools/node_configuration.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

struct Certified {
  Bytes fingerprint;
  std::string cloud;
  NodeFiles there, here;
};

// By which the node knows the daemon: a node has it, and beside the daemon the service key gives
// it.
result<Bytes> cloud_authority(const Config& config, const pb::NodeReply& daemon,
                              const std::string& cloud_uuid) {
  Bytes authority;
  if (config.node.joined()) {
    TRY(authority, read_certificate_file(config.node.authority));
  } else {
    TRY(const auto key, read_key_file(config.keys.service, KeyFileKind::service));
    authority = CertificateAuthority::derive(key.key, cloud_uuid).certificate();
  }
  if (as_text(certificate_key_hash(authority)) == daemon.authority_hash()) return authority;
  return failure(Errc::invalid, "the daemon has another authority than this machine's files say");
}

result<Certified> add(const CommandContext& context, const NodeAddOptions& options) {
  Certified out;
  TRY(const auto config, load_config(context.config));
  TRY(const auto roles, NodeRoles::parse(options.roles));
  Bytes certificate;
  if (!options.certificate.empty()) {
    TRY(certificate, read_certificate_file(options.certificate));
    out.fingerprint = certificate_fingerprint(certificate);
  } else {
    TRY(out.fingerprint, parse_fingerprint(options.fingerprint));
  }
  const bool mounts = roles.has(NodeRole::mount) || roles.has(NodeRole::mount_ro);
  KeyFile key;
  if (mounts) {
    TRY(key, key_for_node(config, options, roles));
  }
  std::error_code error;
  std::filesystem::path directory;
  if (!options.output.empty()) directory = std::filesystem::absolute(options.output);
  if (!options.output.empty() && !std::filesystem::create_directories(directory, error) && error)
    return failure(Error::posix(error.value(), "cannot create directory " + directory.string()));
  TRY(auto link, connect_to_daemon(context));
  out.cloud = link.hello.cloud().name();
  out.there = node_files(options.directory_there, out.cloud);
  out.here = node_files(directory, out.cloud);
  if (!options.output.empty() && std::filesystem::exists(out.here.configuration, error))
    return failure(Errc::exists, out.here.configuration.string() + " exists already");
  TRY(const auto daemon, ask_nodes(link, {}));
  TRY(const auto addresses, addresses_for(config, options, link.hello, daemon));
  TRY(const auto organisation, organisation_of_servers(config));
  TRY(const auto authority, cloud_authority(config, daemon, link.hello.cloud().uuid()));
  pb::NodeRequest request;
  request.set_action(pb::NODE_ADD);
  request.set_name(options.name);
  for (const auto& role : roles.names()) request.add_roles(role);
  request.set_key_hash(std::string(as_text(out.fingerprint)));
  request.set_directory(options.directory);
  TRY(ask_nodes(link, std::move(request)));
  if (options.output.empty()) return out;
  if (mounts) {
    TRY(write_key_file(out.here.data_key, key));
  }
  TRY(replace_file(out.here.authority, certificate_pem(authority)));
  if (!organisation.authorities.empty()) {
    TRY(replace_file(out.here.organisation, organisation.authorities));
  }
  if (!certificate.empty()) {
    TRY(replace_file(out.here.certificate, certificate_pem(certificate)));
  }
  TRY(replace_file(out.here.configuration,
                   node_configuration(out.cloud, options.name, addresses, out.there, mounts,
                                      shared_configuration(config), organisation)));
  return out;
}

}  // namespace

int run_node_add_certified(const CommandContext& context, const NodeAddOptions& options) {
  const auto added = add(context, options);
  if (!added) return report_failure(added.error());
  const auto& node = added.value();
  if (context.json) {
    fmt::print(
        "{}",
        json_text({{"name", options.name},
                   {"roles", options.roles},
                   {"fingerprint", to_hex(node.fingerprint)},
                   {"directory", options.directory.empty() ? Json() : Json(options.directory)},
                   {"configuration",
                    options.output.empty() ? Json() : Json(node.here.configuration.string())}}));
    return kExitOk;
  }
  fmt::print("node {} may come with the certificate {}\n", printable(options.name),
             to_hex(node.fingerprint));
  if (options.output.empty()) return kExitOk;
  fmt::print(
      "Bring the files of {} to {} on the node, over a way that nobody reads, mode 0600; the "
      "node's own key is {} there{}.\n",
      options.output, node.there.configuration.parent_path().string(), node.there.key.string(),
      options.certificate.empty() ? ", its certificate " + node.there.certificate.string() : "");
  return kExitOk;
}

}  // namespace datacloud
