// `locate` as JSON (keys: docs/design.md, "Command line") and as text.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "common/codes/erasure_code.h"
#include "tools/locate_risk.h"
#include "tools/reports.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

using DamagedShards = std::map<std::pair<uint64_t, uint32_t>, uint64_t>;  // -> instance

// Blocks whose data are lost: the daemon tells them as damage of no stripe.
uint64_t blocks_lost(const pb::LocateReply& reply) {
  uint64_t blocks = 0;
  for (const auto& d : reply.damaged()) blocks += d.stripe() == 0 ? d.instance() : 0;
  return blocks;
}

DamagedShards damaged_shards(const pb::LocateReply& reply) {
  DamagedShards found;
  for (const auto& d : reply.damaged()) found[{d.stripe(), d.column()}] = d.instance();
  return found;
}

const char* state_of(const pb::Stripe& stripe, uint32_t column, const DamagedShards& damaged) {
  const pb::Shard& shard = stripe.shards(static_cast<int>(column));
  if (shard.state() == pb::SHARD_EMPTY) return "empty";
  if (shard.state() == pb::SHARD_MISSING) return "missing";
  const auto it = damaged.find({stripe.id(), column});
  return it != damaged.end() && it->second == shard.instance() ? "damaged" : "present";
}

// Data columns of the stripe, -1 when the profile is not known to this program.
int data_columns(const pb::Stripe& stripe) {
  auto code = make_erasure_code(stripe.code());
  return code && code.value()->n() == stripe.shards_size() ? code.value()->k() : -1;
}

// Bytes of data the stripe carries: those of its data columns.
uint64_t data_bytes(const pb::Stripe& stripe, int k) {
  uint64_t bytes = 0;
  for (int c = 0; c < k; c++) bytes += stripe.shards(c).bytes();
  return bytes;
}

std::vector<std::string> example_of(const pb::Cloud& cloud, const LossRisk& risk) {
  std::vector<std::string> names;
  for (const uint32_t site : risk.example) names.push_back(site_name(cloud, site));
  return names;
}

Json risk_json(const pb::Cloud& cloud, const pb::LocateReply& reply) {
  const auto risk = loss_risk(reply);
  if (!risk.sites) return nullptr;
  return {{"sites", *risk.sites},
          {"example", example_of(cloud, risk)},
          {"stripe", risk.stripe},
          {"shards_spare", risk.shards_spare}};
}

// What it would take to lose bytes of it, in words.
std::string risk_text(const pb::Cloud& cloud, const pb::LocateReply& reply) {
  const auto risk = loss_risk(reply);
  if (!risk.sites) {
    return reply.stripes().empty() ? "nothing of it is stored at the sites\n"
                                   : "what it would take to lose it is not known here\n";
  }
  if (*risk.sites == 0) {
    return fmt::format(
        "some of it cannot be read now: stripe {} lacks too many shards; see "
        "`datacloud status`\n",
        risk.stripe);
  }
  std::string names;
  for (const auto& name : example_of(cloud, risk)) {
    names += (names.empty() ? "" : ", ") + printable(name);
  }
  return fmt::format(
      "to lose bytes of it takes the loss of {} {} ({}: stripe {}); any {} more "
      "shards of each stripe may be lost without\n",
      *risk.sites, *risk.sites == 1 ? "site" : "sites at once", names, risk.stripe,
      risk.shards_spare);
}

std::string heading(const pb::Stripe& stripe) {
  const char* weak = stripe.weak() ? ", does not survive the loss of one more site" : "";
  if (stripe.members_size() > 0) {
    return fmt::format(
        "\nrow {} ({}) over {} stripes: it adds 1/{} to what they take; one lost shard of a column "
        "is computed from the column's others{}\n",
        stripe.id(), stripe.code(), stripe.members_size(), stripe.members_size(), weak);
  }
  return fmt::format("\nstripe {} ({}), {} of data{}{}\n", stripe.id(), stripe.code(),
                     human_bytes(data_bytes(stripe, data_columns(stripe))),
                     stripe.row() != 0 ? fmt::format(", in the group of row {}", stripe.row()) : "",
                     weak);
}

}  // namespace

Json locate_json(const pb::Cloud& cloud, const pb::LocateReply& reply,
                 const BlocksInMetadata& in_metadata, const std::string& path) {
  const DamagedShards damaged = damaged_shards(reply);
  Json stripes = Json::array(), rows = Json::array();
  int next_location = 0;
  for (const auto& stripe : reply.stripes()) {
    const int k = data_columns(stripe);
    Json shards = Json::array();
    for (int c = 0; c < stripe.shards_size(); c++) {
      const pb::Shard& shard = stripe.shards(c);
      const bool told = next_location < reply.shard_locations_size();
      shards.push_back({{"column", c},
                        {"site", site_name(cloud, shard.site())},
                        {"instance", shard.instance()},
                        {"location", told ? reply.shard_locations(next_location) : ""},
                        {"bytes", shard.bytes()},
                        {"state", state_of(stripe, static_cast<uint32_t>(c), damaged)}});
      next_location++;
    }
    Json& list = stripe.members_size() > 0 ? rows : stripes;
    list.push_back({{"id", stripe.id()},
                    {"code", stripe.code()},
                    {"k", k < 0 ? Json() : Json(k)},
                    {"m", k < 0 ? Json() : Json(stripe.shards_size() - k)},
                    {"bytes", data_bytes(stripe, k)},
                    {"group", stripe.row() != 0 ? Json(stripe.row()) : Json()},
                    {"shards", std::move(shards)}});
    if (stripe.members_size() > 0) list.back()["members"] = stripe.members();
  }
  Json json = {{"path", path},
               {"inode", reply.inode().ino()},
               {"size", reply.inode().size()},
               {"stripes", std::move(stripes)},
               {"blocks_lost", blocks_lost(reply)},
               {"blocks_in_metadata", in_metadata.whole},
               {"blocks_patched", in_metadata.patched},
               {"loss", risk_json(cloud, reply)}};
  if (!rows.empty()) json["rows"] = std::move(rows);
  return json;
}

namespace {

constexpr int kStripesListed = 20;  // more: a line a site, unless asked for

std::string by_site(const pb::Cloud& cloud, const pb::LocateReply& reply,
                    const DamagedShards& damaged, bool colours) {
  struct Sum {
    uint64_t shards = 0, bytes = 0, missing = 0, damaged = 0, stand_ins = 0;
  };
  std::map<uint32_t, Sum> sites;
  for (const auto& stripe : reply.stripes()) {
    for (int c = 0; c < stripe.shards_size(); ++c) {
      const auto& shard = stripe.shards(c);
      if (shard.state() == pb::SHARD_EMPTY) continue;
      const std::string state = state_of(stripe, static_cast<uint32_t>(c), damaged);
      auto& sum = sites[shard.site()];
      sum.missing += state == "missing";
      sum.damaged += state == "damaged";
      if (state == "missing") continue;
      ++sum.shards;
      sum.bytes += shard.bytes();
      sum.stand_ins += shard.home_site() != 0 && shard.home_site() != shard.site();
    }
  }
  Table table({{"SITE"},
               {"SHARDS", Table::Align::right},
               {"BYTES", Table::Align::right},
               {"MISSING", Table::Align::right},
               {"DAMAGED", Table::Align::right},
               {"FOR OTHERS", Table::Align::right}});
  for (const auto& [site, sum] : sites) {
    const auto bad = [](uint64_t n) {
      return Table::Cell(std::to_string(n), n > 0 ? Colour::bad : Colour::none);
    };
    table.add({printable(site_name(cloud, site)), sum.shards, human_bytes(sum.bytes),
               bad(sum.missing), bad(sum.damaged), sum.stand_ins});
  }
  return fmt::format("\n{}\nEach stripe: --stripes, or --json.\n", table.text(colours));
}

}  // namespace

std::string locate_text(const pb::Cloud& cloud, const pb::LocateReply& reply,
                        const BlocksInMetadata& in_metadata, const std::string& path, bool each,
                        bool colours) {
  const DamagedShards damaged = damaged_shards(reply);
  const auto rows = std::count_if(reply.stripes().begin(), reply.stripes().end(),
                                  [](const auto& s) { return s.members_size() > 0; });
  std::string out =
      fmt::format("{}: inode {}, {} bytes, {} stripes\n", printable(path), reply.inode().ino(),
                  reply.inode().size(), reply.stripes_size() - rows);
  if (const uint64_t lost = blocks_lost(reply)) {
    out += fmt::format(
        "fsck found that the data of {} of its blocks are lost: reading them is "
        "an error until they are written again\n",
        lost);
  }
  if (in_metadata.whole + in_metadata.patched > 0) {
    out += fmt::format(
        "{} of its blocks are in the metadata, and changes of {} more, until they are written into "
        "stripes; the metadata is at the sites that hold the journal\n",
        in_metadata.whole, in_metadata.patched);
  }
  out += risk_text(cloud, reply);
  if (!each && reply.stripes_size() > kStripesListed) {
    return out + by_site(cloud, reply, damaged, colours);
  }
  int next_location = 0;
  for (const auto& stripe : reply.stripes()) {
    out += heading(stripe);
    Table table({{"COLUMN", Table::Align::right},
                 {"SITE"},
                 {"BYTES", Table::Align::right},
                 {"STATE"},
                 {"LOCATION"}});
    for (int c = 0; c < stripe.shards_size(); c++) {
      const pb::Shard& shard = stripe.shards(c);
      const std::string state = state_of(stripe, static_cast<uint32_t>(c), damaged);
      const bool told = next_location < reply.shard_locations_size();
      const Colour colour = state == "damaged"   ? Colour::bad
                            : state == "missing" ? Colour::warning
                            : state == "empty"   ? Colour::dim
                                                 : Colour::good;
      std::string site = printable(site_name(cloud, shard.site()));
      if (shard.home_site() != 0 && shard.home_site() != shard.site()) {
        site += " for " + printable(site_name(cloud, shard.home_site()));
      }
      table.add({static_cast<uint64_t>(c), site, uint64_t{shard.bytes()},
                 Table::Cell(state, colour),
                 told ? printable(reply.shard_locations(next_location)) : ""});
      next_location++;
    }
    out += table.text(colours);
  }
  return out;
}

}  // namespace datacloud
