// `traffic` as JSON (keys: docs/design.md, "Command line") and as text.
#include <fmt/format.h>

#include <array>
#include <map>

#include "common/store/object_store.h"
#include "tools/reports.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

struct Cell {
  uint64_t read = 0, written = 0, operations = 0;
};
using SiteRow = std::array<Cell, kPurposeCount>;

// Every site of the cloud, in its order, with every purpose; rows of sites it no longer has at the
// end. Purposes this program does not know are left out.
std::map<uint32_t, SiteRow> collect(const pb::Cloud& cloud, const pb::TrafficReply& reply) {
  std::map<uint32_t, SiteRow> sites;
  for (const auto& site : cloud.sites()) sites[site.id()];
  for (const auto& row : reply.rows()) {
    if (row.purpose() >= kPurposeCount) continue;
    Cell& cell = sites[row.site()][row.purpose()];
    cell.read += row.bytes_read();
    cell.written += row.bytes_written();
    cell.operations += row.operations();
  }
  return sites;
}

}  // namespace

Json traffic_json(const pb::Cloud& cloud, const pb::TrafficReply& reply) {
  Json sites = Json::array();
  uint64_t total_read = 0, total_written = 0;
  for (const auto& [id, row] : collect(cloud, reply)) {
    Json purposes = Json::object();
    for (int p = 0; p < kPurposeCount; p++) {
      const Cell& cell = row[static_cast<size_t>(p)];
      purposes[purpose_name(static_cast<Purpose>(p))] = {
          {"read", cell.read}, {"written", cell.written}, {"operations", cell.operations}};
      total_read += cell.read;
      total_written += cell.written;
    }
    sites.push_back({{"site", site_name(cloud, id)}, {"purposes", std::move(purposes)}});
  }
  return {{"since_s", static_cast<double>(reply.since_ms()) / 1000},
          {"sites", std::move(sites)},
          {"total_read", total_read},
          {"total_written", total_written}};
}

std::string traffic_text(const pb::Cloud& cloud, const pb::TrafficReply& reply, bool colours) {
  using Align = Table::Align;
  Table table({{"SITE"},
               {"PURPOSE"},
               {"READ", Align::right},
               {"WRITTEN", Align::right},
               {"OPERATIONS", Align::right}});
  uint64_t read = 0, written = 0, operations = 0;
  for (const auto& [id, row] : collect(cloud, reply)) {
    for (int p = 0; p < kPurposeCount; p++) {
      const Cell& cell = row[static_cast<size_t>(p)];
      if (cell.operations == 0 && cell.read == 0 && cell.written == 0) continue;
      table.add({printable(site_name(cloud, id)), purpose_name(static_cast<Purpose>(p)),
                 human_bytes(cell.read), human_bytes(cell.written), cell.operations});
      read += cell.read;
      written += cell.written;
      operations += cell.operations;
    }
  }
  table.add({"total", "", human_bytes(read), human_bytes(written), operations});
  return fmt::format("in the last {}\n\n", human_duration(reply.since_ms())) + table.text(colours);
}

}  // namespace datacloud
