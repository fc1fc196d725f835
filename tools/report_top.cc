// `top`: rates of mounts and requests from two answers of `status`.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "tools/reports.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

struct MountRate {
  const pb::StatusReply::MountStatus* mount = nullptr;
  double operations = 0, read = 0, written = 0;  // per second
};

// Counters begin anew with a mount or the daemon: then what there is counts as new.
double rate(uint64_t before, uint64_t after, double seconds) {
  const uint64_t grown = after >= before ? after - before : after;
  return seconds > 0 ? static_cast<double>(grown) / seconds : 0;
}

std::vector<MountRate> mount_rates(const pb::StatusReply& before, const pb::StatusReply& after,
                                   double seconds) {
  std::map<uint64_t, uint64_t> operations;
  for (const auto& mount : before.mounts()) {
    operations[mount.session().id()] = mount.stats().operations();
  }
  std::map<uint64_t, pb::StatusDetails::MountTraffic> old_traffic, traffic;
  const auto old_details = details_of(before), details = details_of(after);
  for (const auto& row : old_details.mount_traffic()) old_traffic[row.session()] = row;
  for (const auto& row : details.mount_traffic()) traffic[row.session()] = row;
  std::vector<MountRate> rates;
  for (const auto& mount : after.mounts()) {
    const uint64_t id = mount.session().id();
    MountRate row{&mount};
    row.operations = rate(operations[id], mount.stats().operations(), seconds);
    row.read = rate(old_traffic[id].bytes_read(), traffic[id].bytes_read(), seconds);
    row.written = rate(old_traffic[id].bytes_written(), traffic[id].bytes_written(), seconds);
    rates.push_back(row);
  }
  std::stable_sort(rates.begin(), rates.end(), [](const MountRate& a, const MountRate& b) {
    return a.read + a.written + a.operations > b.read + b.written + b.operations;
  });
  return rates;
}

// Requests to the daemon per second, the most frequent first.
std::vector<std::pair<std::string, double>> request_rates(const pb::StatusReply& before,
                                                          const pb::StatusReply& after,
                                                          double seconds) {
  std::map<std::string, uint64_t> counts;
  const auto old_details = details_of(before), details = details_of(after);
  for (const auto& operation : old_details.operations()) {
    counts[operation.name()] = operation.count();
  }
  std::vector<std::pair<std::string, double>> rates;
  for (const auto& operation : details.operations()) {
    const double now = rate(counts[operation.name()], operation.count(), seconds);
    if (now > 0) rates.emplace_back(operation.name(), now);
  }
  std::stable_sort(rates.begin(), rates.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  return rates;
}

std::string bytes_rate(double rate) { return human_bytes(static_cast<uint64_t>(rate)) + "/s"; }

}  // namespace

Json top_json(const pb::StatusReply& before, const pb::StatusReply& after, double seconds) {
  Json mounts = Json::array(), requests = Json::object();
  for (const auto& row : mount_rates(before, after, seconds)) {
    mounts.push_back({{"session", row.mount->session().id()},
                      {"host", row.mount->session().host()},
                      {"mountpoint", row.mount->session().mountpoint()},
                      {"operations_per_second", row.operations},
                      {"bytes_read_per_second", row.read},
                      {"bytes_written_per_second", row.written},
                      {"dirty_bytes", row.mount->stats().dirty_bytes()}});
  }
  for (const auto& [name, per_second] : request_rates(before, after, seconds)) {
    requests[name] = per_second;
  }
  return {{"seconds", seconds},
          {"health", after.health()},
          {"mounts", std::move(mounts)},
          {"requests_per_second", std::move(requests)},
          {"queues", queues_json(details_of(after))}};
}

std::string top_text(const pb::StatusReply& before, const pb::StatusReply& after, double seconds,
                     bool colours) {
  std::string out = fmt::format("{}: {}; {} mounts, sequence {}\n", printable(after.cloud().name()),
                                after.health(), after.mounts_size(), after.sequence());
  out += background_text(details_of(after)) + "\n";
  using Align = Table::Align;
  Table mounts({{"MOUNT"},
                {"HOST"},
                {"OPS/s", Align::right},
                {"READ", Align::right},
                {"WRITTEN", Align::right},
                {"DIRTY", Align::right},
                {"LEASES", Align::right}});
  for (const auto& row : mount_rates(before, after, seconds)) {
    mounts.add({printable(row.mount->session().mountpoint()),
                printable(row.mount->session().host()), fmt::format("{:.1f}", row.operations),
                bytes_rate(row.read), bytes_rate(row.written),
                human_bytes(row.mount->stats().dirty_bytes()), uint64_t{row.mount->leases()}});
  }
  Table requests({{"REQUEST"}, {"PER SECOND", Align::right}});
  for (const auto& [name, per_second] : request_rates(before, after, seconds)) {
    requests.add({name, fmt::format("{:.1f}", per_second)});
  }
  return out + mounts.text(colours) + "\n" + requests.text(colours);
}

}  // namespace datacloud
