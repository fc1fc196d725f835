// `datacloud quarantine`: what fsck has put aside, and dropping it. An id is the record's key in
// hexadecimal.
#include <fmt/format.h>
#include <unistd.h>

#include <iostream>

#include "common/base/hex.h"
#include "common/proto/records.pb.h"
#include "tools/admin_call.h"
#include "tools/exit_codes.h"
#include "tools/json_text.h"
#include "tools/reports.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

using Record = pb::QuarantineReply::Record;

constexpr size_t kKeysPerRequestMax = 100;
constexpr size_t kRecordsMax = 1'000'000;  // of one listing

result<pb::QuarantineReply> ask(DaemonLink& link, pb::QuarantineRequest request) {
  pb::AdminRequest admin;
  *admin.mutable_quarantine() = std::move(request);
  TRY(auto reply, call_admin(link, admin));
  return std::move(*reply.mutable_quarantine());
}

result<std::vector<Record>> list(DaemonLink& link) {
  std::vector<Record> records;
  pb::QuarantineRequest request;
  do {
    TRY(auto page, ask(link, request));
    for (auto& record : *page.mutable_records()) records.push_back(std::move(record));
    request.set_after(page.next());
  } while (!request.after().empty() && records.size() < kRecordsMax);
  return records;
}

std::string id_of(const Record& record) { return to_hex(as_bytes(record.key())); }

result<std::string> key_of(const std::string& id) {
  Bytes key(id.size() / 2);
  if (!id.empty() && from_hex(id, key)) return std::string(as_text(key));
  return failure(Errc::invalid,
                 fmt::format("\"{}\" is not an id; `datacloud quarantine list` shows the ids", id));
}

result<std::vector<Record>> named(DaemonLink& link, const std::vector<std::string>& ids) {
  std::vector<Record> records;
  for (const auto& id : ids) {
    pb::QuarantineRequest request;
    TRY(*request.add_keys(), key_of(id));
    TRY(auto reply, ask(link, request));
    if (reply.records_size() == 0) {
      return failure(Errc::not_found, fmt::format("{} is not in quarantine", id));
    }
    records.push_back(std::move(*reply.mutable_records(0)));
  }
  return records;
}

struct Sum {
  uint64_t stripes = 0, bytes = 0;
  bool unknown = false;  // of some stripe
  explicit Sum(const std::vector<Record>& records) {
    for (const auto& record : records) {
      if (record.protects() == 0) continue;
      ++stripes;
      bytes += record.objects_bytes();
      unknown |= record.objects_bytes() == 0;
    }
  }
  std::string text() const {
    return fmt::format("{}{} at the sites", unknown ? "at least " : "", human_bytes(bytes));
  }
};

// What the record's bytes mean, as far as they can be read.
std::string meaning(const Record& record) {
  const auto text = [&](auto message) {
    return message.ParseFromString(record.value()) ? message.DebugString() : std::string();
  };
  switch (record.key().front()) {
    case 'S':
      return text(pb::Stripe());
    case 'L':
      return text(pb::StripeLive());
    case 'M':
      return text(pb::Run());
    case 'R':
    case 'J':
    case 'F':
      return text(pb::Owner());
    case 'I':
      return text(pb::Inode());
    case 'E':
      return text(pb::Entry());
    case 'B':
      return text(pb::Damage());
    case 'T':
      return text(pb::Tree());
    case 'U':
      return text(pb::TreeCounters());
    default:
      return {};
  }
}

Json json_of(const Record& record) {
  Json json = {
      {"id", id_of(record)},
      {"record", record.what()},
      {"since_ns", record.since_ns()},
      {"why", record.why()},
      {"bytes", record.value_bytes()},
      {"stripe", record.protects() == 0 ? Json() : Json(record.protects())},
      {"objects_bytes", record.objects_bytes() == 0 ? Json() : Json(record.objects_bytes())}};
  return json;
}

Json json_of(const std::vector<Record>& records) {
  Json list = Json::array();
  for (const auto& record : records) list.push_back(json_of(record));
  const Sum sum(records);
  return {{"records", std::move(list)},
          {"stripes", sum.stripes},
          {"objects_bytes", sum.bytes},
          {"objects_bytes_whole", !sum.unknown}};
}

void tell(const std::vector<Record>& records) {
  if (records.empty()) {
    fmt::print("nothing is in quarantine\n");
    return;
  }
  Table table({{"ID"}, {"SINCE"}, {"RECORD"}, {"KEEPS", Table::Align::right}, {"WHY"}});
  for (const auto& record : records) {
    const std::string keeps = record.protects() == 0        ? "nothing"
                              : record.objects_bytes() == 0 ? "its objects"
                                                            : human_bytes(record.objects_bytes());
    table.add({id_of(record), local_time(record.since_ns()), printable(record.what()), keeps,
               record.why().empty() ? "unknown" : printable(record.why())});
  }
  fmt::print("{}", table.text(colour_wanted()));
  const Sum sum(records);
  fmt::print("{} records; the objects of {} stripes are kept for them, {}\n", records.size(),
             sum.stripes, sum.text());
}

bool agreed(const std::vector<Record>& records) {
  const Sum sum(records);
  fmt::print("{} records are dropped for good", records.size());
  if (sum.stripes > 0) {
    fmt::print(", the objects of {} stripes deleted ({}): what they hold is lost for good",
               sum.stripes, sum.text());
  }
  fmt::print(". Do it? [y/N] ");
  std::fflush(stdout);
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "y" || answer == "yes";
}

struct Dropped {
  uint64_t records = 0, stripes = 0;
};

result<Dropped> drop(DaemonLink& link, const std::vector<Record>& records) {
  Dropped all;
  for (size_t i = 0; i < records.size();) {
    pb::QuarantineRequest request;
    request.set_change(pb::QuarantineRequest::DROP);
    for (size_t n = 0; n < kKeysPerRequestMax && i < records.size(); ++n, ++i) {
      request.add_keys(records[i].key());
    }
    TRY(const auto reply, ask(link, request));
    all.records += reply.dropped();
    all.stripes += reply.released();
  }
  return all;
}

}  // namespace

int run_quarantine_list(const CommandContext& context) {
  const auto records = [&]() -> result<std::vector<Record>> {
    TRY(auto link, connect_to_daemon(context, seconds(60)));
    return list(link);
  }();
  if (!records) return report_failure(records.error());
  if (context.json) {
    fmt::print("{}", json_text(json_of(records.value())));
  } else {
    tell(records.value());
  }
  return kExitOk;
}

int run_quarantine_show(const CommandContext& context, const QuarantineOptions& options) {
  const auto records = [&]() -> result<std::vector<Record>> {
    TRY(auto link, connect_to_daemon(context, seconds(60)));
    return named(link, options.ids);
  }();
  if (!records) return report_failure(records.error());
  Json out = Json::array();
  for (const auto& record : records.value()) {
    const std::string hex = to_hex(as_bytes(record.value()));
    if (context.json) {
      Json json = json_of(record);
      json["value"] = hex;
      json["text"] = meaning(record);
      out.push_back(std::move(json));
      continue;
    }
    fmt::print("{}: {}, since {}\n", id_of(record), printable(record.what()),
               local_time(record.since_ns()));
    if (!record.why().empty()) fmt::print("why: {}\n", printable(record.why()));
    if (record.protects() != 0) {
      fmt::print("the objects of stripe {} are kept at the sites for it\n", record.protects());
    }
    const std::string text = meaning(record);
    if (record.value().empty()) {
      fmt::print("the record itself is lost\n");
    } else {
      fmt::print("{}{}", text.empty() ? hex : text, text.empty() ? "\n" : "");
    }
  }
  if (context.json) fmt::print("{}", json_text(out));
  return kExitOk;
}

int run_quarantine_drop(const CommandContext& context, const QuarantineOptions& options) {
  if (options.ids.empty() != options.all) {
    fmt::print(stderr, "datacloud: quarantine drop takes ids, or --all\n");
    return kExitUsage;
  }
  auto link = connect_to_daemon(context, seconds(60));
  if (!link) return report_failure(link.error());
  const auto records = options.all ? list(link.value()) : named(link.value(), options.ids);
  if (!records) return report_failure(records.error());
  if (!options.yes && !records.value().empty()) {
    if (!::isatty(STDIN_FILENO)) {
      return report_failure(Error(Errc::invalid, "nothing is dropped without --yes"));
    }
    if (!agreed(records.value())) return kExitFailed;
  }
  const auto dropped = drop(link.value(), records.value());
  if (!dropped) return report_failure(dropped.error());
  if (context.json) {
    fmt::print("{}", json_text({{"records", dropped.value().records},
                                {"stripes", dropped.value().stripes}}));
  } else {
    fmt::print("{} records dropped{}\n", dropped.value().records,
               dropped.value().stripes == 0
                   ? std::string()
                   : fmt::format("; the objects of {} stripes are being deleted (`datacloud gc "
                                 "--wait` returns when they are)",
                                 dropped.value().stripes));
  }
  return kExitOk;
}

}  // namespace datacloud
