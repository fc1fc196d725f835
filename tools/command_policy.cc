// `datacloud policy`: what new files of a directory look like; and `background`: pause and limit.
#include <fmt/format.h>

#include "common/config/config.h"
#include "common/crypto/sealed_block.h"
#include "common/stripe/shard_size.h"
#include "tools/admin_call.h"
#include "tools/exit_codes.h"
#include "tools/json_text.h"
#include "tools/mounted_path.h"
#include "tools/reports.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

const char* compression_name(uint32_t compression) {
  return compression == static_cast<uint32_t>(Compression::none) ? "none" : "zstd";
}

// The home site's name; empty for "spread".
result<std::string> home_site(const CommandContext& context, const std::string& placement) {
  if (placement == "spread") return std::string();
  if (placement.starts_with("home:") && placement.size() > 5) return placement.substr(5);
  if (placement != "home") {
    return failure(Errc::invalid,
                   fmt::format("placement \"{}\": spread, home or home:SITE", placement));
  }
  TRY(const Config config, load_config(context.config));
  if (!config.daemon.site.empty()) return config.daemon.site;
  return failure(Errc::invalid, "[daemon] site is not set: name the site, home:SITE");
}

// What rows cost and save.
std::string group_text(const pb::PolicyReply& r) {
  const uint32_t t = r.policy().group();
  if (t == 0) {
    return fmt::format("off: one lost shard is repaired with {} shards from other sites", r.k());
  }
  return fmt::format(
      "{} stripes and an XOR row: {:.2f} bytes stored per byte (1/{} more); one lost shard is "
      "repaired from {} shards of its own site instead of {} from others",
      t, r.overhead() * (1 + 1.0 / t), t, t, r.k());
}

result<pb::PolicyReply> ask(const CommandContext& context, const std::string& path,
                            const PolicyOptions* options) {
  TRY(auto link, connect_to_daemon(context));
  pb::AdminRequest request;
  auto* policy = request.mutable_policy();
  TRY(const auto inode, mounted_inode(path));
  if (inode) {
    policy->set_ino(*inode);
  } else {
    policy->set_path(path.starts_with('/') ? path : "/" + path);
  }
  if (options != nullptr) {
    policy->set_change(true);
    policy->set_code(options->code);
    policy->set_compress(options->compress);
    if (!options->block.empty()) {
      TRY(const uint64_t bytes, parse_bytes(options->block));
      policy->set_block_bytes(static_cast<uint32_t>(std::min<uint64_t>(bytes, UINT32_MAX)));
    }
    if (!options->shard.empty()) {
      TRY(const uint64_t bytes, parse_bytes(options->shard));
      policy->set_shard_bytes(static_cast<uint32_t>(std::min<uint64_t>(bytes, UINT32_MAX)));
    }
    if (options->group) policy->set_group(*options->group);
    if (!options->placement.empty()) {
      TRY(*policy->mutable_home_site(), home_site(context, options->placement));
    }
  }
  TRY(auto reply, call_admin(link, request));
  return std::move(*reply.mutable_policy());
}

int tell(const CommandContext& context, const std::string& path,
         const result<pb::PolicyReply>& reply) {
  if (!reply) return report_failure(reply.error());
  const auto& r = reply.value();
  const uint64_t shard = shard_bytes_of(r.policy().shard_bytes());
  const uint64_t stripe = shard * static_cast<uint64_t>(r.k());
  if (context.json) {
    fmt::print("{}", json_text({{"path", path},
                                {"code", r.policy().code()},
                                {"block_bytes", r.policy().block_bytes()},
                                {"shard_bytes", shard},
                                {"stripe_bytes", stripe},
                                {"compress", compression_name(r.policy().compression())},
                                {"group", r.policy().group()},
                                {"placement", r.home_site().empty() ? "spread" : "home"},
                                {"home_site", r.home_site().empty() ? Json() : Json(r.home_site())},
                                {"tolerance", r.tolerance()},
                                {"overhead", r.overhead()}}));
    return kExitOk;
  }
  fmt::print("code      {}: {:.2f} bytes stored per byte of incompressible data\n",
             r.policy().code(), r.overhead());
  fmt::print("survives  {}\n", r.tolerance());
  fmt::print("block     {}\n", human_bytes(r.policy().block_bytes()));
  fmt::print("shard     {}: stripes of up to {} of data\n", human_bytes(shard),
             human_bytes(stripe));
  fmt::print("compress  {}\n", compression_name(r.policy().compression()));
  fmt::print("groups    {}\n", group_text(r));
  if (r.home_site().empty()) {
    fmt::print("placement spread over all sites\n");
  } else {
    fmt::print("placement home: {} of {} data columns at {}, the rest at the other sites\n",
               r.home_columns(), r.k(), printable(r.home_site()));
  }
  return kExitOk;
}

}  // namespace

int run_policy_show(const CommandContext& context, const std::string& path) {
  return tell(context, path, ask(context, path, nullptr));
}

int run_policy_set(const CommandContext& context, const std::string& path,
                   const PolicyOptions& options) {
  return tell(context, path, ask(context, path, &options));
}

int run_background(const CommandContext& context, const BackgroundOptions& options) {
  auto link = connect_to_daemon(context);
  if (!link) return report_failure(link.error());
  pb::AdminRequest request;
  auto* background = request.mutable_background();
  if (options.action == "pause" || options.action == "resume") {
    background->set_pause(options.action == "pause");
  }
  if (options.action == "limit") {
    if (options.limit.empty() && !options.operations) {
      return report_failure(
          Error(Errc::invalid, "no limit is given: a RATE such as 20MiB, --operations N, or both"));
    }
    if (!options.limit.empty()) {
      const auto bytes = parse_bytes(options.limit);
      if (!bytes) return report_failure(bytes.error());
      background->set_site_bytes_per_second_max(bytes.value());
    }
    if (options.operations) background->set_site_operations_per_second_max(*options.operations);
  }
  const auto reply = call_admin(link.value(), request);
  if (!reply) return report_failure(reply.error());
  pb::StatusDetails details;
  *details.mutable_background() = reply.value().background();
  fmt::print("{}", context.json ? json_text(background_json(details)) : limits_text(details));
  return kExitOk;
}

}  // namespace datacloud
