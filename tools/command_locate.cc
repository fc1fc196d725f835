// `datacloud locate PATH`: the stripes of a file and where their shards are.
#include <fmt/format.h>

#include <unordered_set>

#include "tools/admin_call.h"
#include "tools/exit_codes.h"
#include "tools/mounted_path.h"
#include "tools/reports.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

struct Located {
  pb::Cloud cloud;
  pb::LocateReply reply;
  BlocksInMetadata in_metadata;
};

// Appends what is new in a part. What the slots say is not shown: a large file has many.
void add_part(pb::LocateReply& part, std::unordered_set<uint64_t>& known, pb::LocateReply& all) {
  std::unordered_set<uint64_t> fresh;
  int location = 0;
  for (auto& stripe : *part.mutable_stripes()) {
    const int shards = stripe.shards_size();
    const bool is_new = known.insert(stripe.id()).second;
    for (int c = 0; c < shards && is_new; ++c) {
      const bool told = location + c < part.shard_locations_size();
      all.add_shard_locations(told ? part.shard_locations(location + c) : "");
    }
    location += shards;
    if (!is_new) continue;
    fresh.insert(stripe.id());
    stripe.clear_slot_column();
    stripe.clear_slot_offset();
    stripe.clear_slot_length();
    *all.add_stripes() = std::move(stripe);
  }
  for (auto& damage : *part.mutable_damaged()) {
    if (damage.stripe() == 0 || fresh.count(damage.stripe()) > 0) {
      *all.add_damaged() = std::move(damage);
    }
  }
  if (!all.has_inode()) {
    *all.mutable_inode() = part.inode();
    all.set_path(part.path());
  }
}

result<Located> ask(const CommandContext& context, const std::string& path) {
  TRY(const auto inode, mounted_inode(path));
  pb::AdminRequest request;
  auto& part = *request.mutable_locate_part();
  if (inode) {
    part.set_ino(*inode);
  } else {
    part.set_path(path.front() == '/' ? path : "/" + path);
  }
  TRY(auto link, connect_to_daemon(context));
  Located located;
  located.cloud = link.hello.cloud();
  std::unordered_set<uint64_t> known;
  for (bool more = true; more;) {
    const auto reply = call_admin(link, request);
    if (!reply && !inode && reply.error().errno_value() == ENOENT) {
      return failure(Error(reply.error().code(), path +
                                                     ": not on a mounted cloud, and there is no "
                                                     "such path inside cloud " +
                                                     link.hello.cloud().name()));
    }
    if (!reply) return failure(reply.error());
    const auto& told = reply.value().locate_part();
    pb::LocateReply one;
    if (!one.ParseFromString(told.locate())) {
      return failure(Errc::corrupt, "the daemon's answer does not parse");
    }
    add_part(one, known, located.reply);
    located.in_metadata.whole += told.inline_blocks();
    located.in_metadata.patched += told.patched_blocks();
    more = told.has_next_block() && told.next_block() > part.first_block();
    part.set_first_block(told.next_block());
  }
  return located;
}

}  // namespace

int run_locate(const CommandContext& context, const std::string& path, bool stripes) {
  if (path.empty()) return report_failure(Error(Errc::invalid, "locate needs a path"));
  auto located = ask(context, path);
  if (!located) return report_failure(located.error());
  const auto& [cloud, reply, in_metadata] = located.value();
  fmt::print("{}", context.json
                       ? json_text(locate_json(cloud, reply, in_metadata, path))
                       : locate_text(cloud, reply, in_metadata, path, stripes, colour_wanted()));
  return kExitOk;
}

}  // namespace datacloud
