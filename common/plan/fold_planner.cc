// Costs of the ways to fold, and the choice. Pure; see fold_planner.h.
#include "common/plan/fold_planner.h"

#include <algorithm>
#include <set>

namespace datacloud {
namespace {

bool is_in(const std::vector<SiteId>& sites, SiteId site) {
  return std::find(sites.begin(), sites.end(), site) != sites.end();
}

uint64_t total_length(std::vector<ByteRange> ranges) {
  std::sort(ranges.begin(), ranges.end(),
            [](const auto& a, const auto& b) { return a.offset < b.offset; });
  uint64_t total = 0, end = 0;
  for (const auto& r : ranges) {
    const uint64_t from = std::max(end, r.offset), to = r.offset + r.length;
    if (to <= from) continue;
    total += to - from;
    end = to;
  }
  return total;
}

std::string columns_text(ColumnSet columns) {
  std::string text;
  for (int c = 0; c < 32; ++c)
    if (contains(columns, c)) text += (text.empty() ? "" : ", ") + std::to_string(c);
  return text;
}

class FoldCosts {
 public:
  explicit FoldCosts(const FoldProblem& problem) : p_(problem) {}

  FoldAlternative parity_delta(const std::vector<size_t>& folded,
                               const std::vector<size_t>& leftovers);
  FoldAlternative reencode();
  FoldAlternative merge();
  FoldAlternative merge_updates(const std::vector<size_t>& blocks);

 private:
  int k() const { return p_.code.k(); }
  int n() const { return p_.code.n(); }
  bool remote(SiteId site) const { return p_.local_site == 0 || site != p_.local_site; }

  void read(FoldCost& cost, SiteId site, uint64_t bytes) const {
    if (bytes == 0) return;
    if (remote(site)) cost.inter_site_read_bytes += bytes;
    cost.disk_bytes += bytes;
    ++cost.operations;
  }
  void write(FoldCost& cost, SiteId site, uint64_t bytes) const {
    if (bytes == 0) return;
    if (remote(site)) cost.inter_site_written_bytes += bytes;
    cost.disk_bytes += bytes;
    ++cost.operations;
  }
  // `changed` bytes are sent; the object of `size` bytes is copied where it lies.
  void derive(FoldCost& cost, SiteId site, uint64_t changed, uint64_t size, bool is_inside) const {
    if (is_inside)
      cost.inside_site_bytes += changed;
    else if (remote(site))
      cost.inter_site_written_bytes += changed;
    cost.disk_bytes += 2 * size;
    cost.copied_bytes += size;
    ++cost.operations;
  }
  // Can the change of a base column reach the XOR row's column without crossing a link again?
  bool row_is_beside(int column) const {
    const SiteId site = p_.xor_row->sites[column];
    return site == p_.base.sites[column] && (!remote(site) || is_in(p_.working_sites, site));
  }
  ColumnSet touched_data(const std::vector<size_t>& blocks) const {
    ColumnSet columns = 0;
    for (const size_t i : blocks) columns |= ColumnSet{1} << p_.updates[i].slot.column;
    return columns;
  }
  std::vector<size_t> all_updates() const {
    std::vector<size_t> all(p_.updates.size());
    for (size_t i = 0; i < all.size(); ++i) all[i] = i;
    return all;
  }
  void read_new(FoldCost& cost, const std::vector<size_t>& blocks) const {
    for (const size_t i : blocks)
      if (!p_.updates[i].new_at_hand) read(cost, p_.updates[i].new_site, p_.updates[i].new_bytes);
  }
  // A new stripe on the base's sites.
  result<void> write_stripe(FoldCost& cost, const std::vector<uint32_t>& lengths) const;
  void change_row_by_new_shard(FoldCost& cost, int column, uint64_t bytes, uint64_t known) const;
  std::vector<uint64_t> live_bytes() const;  // by column

  const FoldProblem& p_;
};

FoldAlternative FoldCosts::parity_delta(const std::vector<size_t>& folded,
                                        const std::vector<size_t>& leftovers) {
  FoldAlternative a{.kind = FoldKind::parity_delta};
  if (folded.empty()) {
    a.impossible = "no updated block fits its slot";
    return a;
  }
  std::vector<std::vector<ByteRange>> changes(n());
  for (const size_t i : folded) {
    const FoldBlock& b = p_.updates[i];
    const int c = static_cast<int>(b.slot.column);
    const ByteRange change{b.slot.offset, b.new_bytes};
    changes[c].push_back(change);
    for (int p = 0; p < p_.code.m(); ++p)
      for (const auto& r : p_.code.delta_ranges(c, p, change, p_.base.parity_bytes))
        changes[k() + p].push_back(r);
    if (!b.old_at_hand) read(a.cost, p_.base.sites[c], b.new_bytes);
  }
  read_new(a.cost, folded);
  ColumnSet damaged = 0;
  for (int c = 0; c < n(); ++c) {
    const uint64_t changed = total_length(changes[c]);
    if (changed == 0) continue;
    derive(a.cost, p_.base.sites[c], changed, p_.base.shard_bytes[c], false);
    damaged |= p_.base.damaged & ColumnSet{1} << c;
    if (!p_.xor_row) continue;
    derive(a.cost, p_.xor_row->sites[c], changed, p_.xor_row->shard_bytes[c], row_is_beside(c));
    damaged |= p_.xor_row->damaged & ColumnSet{1} << c;
  }
  if (damaged != 0) a.impossible = "repair first: damaged column " + columns_text(damaged);
  if (!leftovers.empty()) {
    const auto rest = merge_updates(leftovers);
    if (a.impossible.empty()) a.impossible = rest.impossible;
    a.cost.inter_site_read_bytes += rest.cost.inter_site_read_bytes;
    a.cost.inter_site_written_bytes += rest.cost.inter_site_written_bytes;
    a.cost.disk_bytes += rest.cost.disk_bytes;
    a.cost.copied_bytes += rest.cost.copied_bytes;
    a.cost.operations += rest.cost.operations;
  }
  return a;
}

std::vector<uint64_t> FoldCosts::live_bytes() const {
  std::vector<uint64_t> bytes(k(), 0);
  for (const Slot& slot : p_.live) bytes[slot.column] += slot.length;
  return bytes;
}

// A column replaced by a whole new shard: the XOR row's column gets old plus new. Without work at
// the site the old bytes that are not known yet are read, and the sum is sent.
void FoldCosts::change_row_by_new_shard(FoldCost& cost, int column, uint64_t bytes,
                                        uint64_t known) const {
  if (!p_.xor_row) return;
  const uint64_t old = p_.base.shard_bytes[column], changed = std::max(old, bytes);
  const bool is_inside = row_is_beside(column);
  if (!is_inside) read(cost, p_.base.sites[column], old - std::min(old, known));
  derive(cost, p_.xor_row->sites[column], changed,
         std::max(changed, p_.xor_row->shard_bytes[column]), is_inside);
}

FoldAlternative FoldCosts::reencode() {
  FoldAlternative a{.kind = FoldKind::reencode};
  const ColumnSet touched = touched_data(all_updates());
  const ColumnSet data = (ColumnSet{1} << k()) - 1;
  ColumnSet damaged = p_.base.damaged & data;
  const auto live = live_bytes();
  std::vector<uint64_t> lengths(p_.base.shard_bytes.begin(), p_.base.shard_bytes.begin() + k());
  for (int c = 0; c < k(); ++c) {
    if (!contains(touched, c)) {
      read(a.cost, p_.base.sites[c], lengths[c]);
      continue;
    }
    read(a.cost, p_.base.sites[c], live[c]);
    lengths[c] = live[c];
    for (const auto& b : p_.updates)
      if (static_cast<int>(b.slot.column) == c) lengths[c] += b.new_bytes;
    if (lengths[c] > p_.shard_bytes_max)
      a.impossible = "column " + std::to_string(c) + " would take " + std::to_string(lengths[c]) +
                     " bytes, more than a shard may have";
  }
  read_new(a.cost, all_updates());
  const uint64_t packets = p_.code.packets();
  const uint64_t longest = *std::max_element(lengths.begin(), lengths.end());
  const uint64_t parity = (longest + packets - 1) / packets * packets;
  for (int c = 0; c < n(); ++c) {
    if (c < k() && !contains(touched, c)) continue;
    const uint64_t bytes = c < k() ? lengths[c] : parity;
    write(a.cost, p_.base.sites[c], bytes);
    change_row_by_new_shard(a.cost, c, bytes, c < k() ? live[c] : 0);
    if (p_.xor_row) damaged |= (p_.base.damaged | p_.xor_row->damaged) & ColumnSet{1} << c;
  }
  if (damaged != 0) a.impossible = "repair first: damaged column " + columns_text(damaged);
  return a;
}

result<void> FoldCosts::write_stripe(FoldCost& cost, const std::vector<uint32_t>& lengths) const {
  TRY(const auto layout, lay_out_stripe(lengths, k(), p_.code.packets(), p_.spread_min_bytes));
  for (int c = 0; c < n(); ++c)
    write(cost, p_.base.sites[c], c < k() ? layout.data_lengths[c] : layout.parity_length);
  return success();
}

FoldAlternative FoldCosts::merge() {
  FoldAlternative a{.kind = FoldKind::merge};
  std::vector<uint32_t> lengths;
  ColumnSet damaged = 0;
  for (const Slot& slot : p_.live) {
    lengths.push_back(slot.length);
    damaged |= p_.base.damaged & ColumnSet{1} << slot.column;
  }
  for (const auto& b : p_.updates) lengths.push_back(b.new_bytes);
  const auto live = live_bytes();
  for (int c = 0; c < k(); ++c) read(a.cost, p_.base.sites[c], live[c]);
  read_new(a.cost, all_updates());
  if (damaged != 0) a.impossible = "repair first: damaged column " + columns_text(damaged);
  if (auto written = write_stripe(a.cost, lengths); !written) a.impossible = written.error().text();
  return a;
}

FoldAlternative FoldCosts::merge_updates(const std::vector<size_t>& blocks) {
  FoldAlternative a{.kind = FoldKind::merge_updates};
  std::vector<uint32_t> lengths;
  for (const size_t i : blocks) lengths.push_back(p_.updates[i].new_bytes);
  read_new(a.cost, blocks);
  if (auto written = write_stripe(a.cost, lengths); !written) a.impossible = written.error().text();
  return a;
}

result<void> check_columns(const FoldColumns& columns, const ErasureCode& code, const char* what) {
  const size_t n = code.n();
  bool fits = columns.shard_bytes.size() == n && columns.sites.size() == n &&
              columns.parity_bytes % code.packets() == 0 && (n >= 32 || columns.damaged >> n == 0);
  for (size_t c = 0; fits && c < n; ++c) fits = columns.shard_bytes[c] <= columns.parity_bytes;
  if (fits) return success();
  return failure(Errc::invalid, std::string("the columns of a ") + what +
                                    " to be folded into do not fit " + code.name());
}

result<void> check(const FoldProblem& p) {
  TRY(check_columns(p.base, p.code, "stripe"));
  if (p.xor_row) {
    TRY(check_columns(*p.xor_row, p.code, "XOR row"));
  }
  if (p.updates.empty()) return failure(Errc::invalid, "a fold without updates");
  std::vector<Slot> slots = p.live;
  for (const auto& b : p.updates) {
    if (b.new_bytes == 0) return failure(Errc::invalid, "an update to be folded has no bytes");
    slots.push_back(b.slot);
  }
  std::vector<uint32_t> lengths;
  for (int c = 0; c < p.code.k(); ++c)
    lengths.push_back(static_cast<uint32_t>(std::min<uint64_t>(p.base.shard_bytes[c], UINT32_MAX)));
  return validate_slots(slots, p.code.k(), lengths);
}

// What is left alive of the bytes of the data columns once the updates are in.
double live_share(const FoldProblem& p) {
  uint64_t live = 0, stored = 0;
  for (const Slot& slot : p.live) live += slot.length;
  for (const auto& b : p.updates) live += std::min(b.new_bytes, b.slot.length);
  for (int c = 0; c < p.code.k(); ++c) stored += p.base.shard_bytes[c];
  return stored == 0 ? 1 : static_cast<double>(live) / static_cast<double>(stored);
}

}  // namespace

const char* fold_kind_name(FoldKind kind) {
  switch (kind) {
    case FoldKind::parity_delta:
      return "parity delta";
    case FoldKind::reencode:
      return "re-encode";
    case FoldKind::merge:
      return "merge";
    case FoldKind::merge_updates:
      return "merge updates only";
  }
  return "";
}

std::strong_ordering FoldCost::operator<=>(const FoldCost& other) const {
  if (const auto c = inter_site_bytes() <=> other.inter_site_bytes(); c != 0) return c;
  if (const auto c = disk_bytes <=> other.disk_bytes; c != 0) return c;
  return operations <=> other.operations;
}

result<FoldPlan> plan_fold(const FoldProblem& problem) {
  TRY(check(problem));
  FoldPlan plan;
  for (size_t i = 0; i < problem.updates.size(); ++i) {
    const auto& b = problem.updates[i];
    (b.new_bytes <= b.slot.length ? plan.folded : plan.leftovers).push_back(i);
  }
  std::vector<size_t> all(problem.updates.size());
  for (size_t i = 0; i < all.size(); ++i) all[i] = i;
  FoldCosts costs(problem);
  plan.alternatives = {costs.parity_delta(plan.folded, plan.leftovers), costs.reencode(),
                       costs.merge(), costs.merge_updates(all)};
  FoldAlternative &delta = plan.alternatives[0], &reencode = plan.alternatives[1],
                  &merge = plan.alternatives[2], &updates = plan.alternatives[3];
  const bool is_sparse = live_share(problem) < problem.live_share_min;
  if (is_sparse)
    for (auto* a : {&delta, &reencode})
      if (a->impossible.empty()) a->impossible = "too little of the stripe is live, it is merged";
  const bool is_blocked =
      !delta.impossible.empty() && !reencode.impossible.empty() && !merge.impossible.empty();
  const bool may_leave_dead_bytes =
      (plan.folded.empty() && !is_sparse) || (is_blocked && problem.blocked_too_long);
  if (updates.impossible.empty() && !may_leave_dead_bytes)
    updates.impossible = "dead bytes stay in the stripe; for blocks that fit or can wait, a fold";
  for (const auto& a : plan.alternatives) {
    if (!a.impossible.empty()) continue;
    if (!plan.chosen || a.cost < plan.alternatives[static_cast<size_t>(*plan.chosen)].cost)
      plan.chosen = a.kind;
  }
  return plan;
}

std::vector<std::string> explain(const FoldPlan& plan) {
  std::vector<std::string> lines;
  for (const auto& a : plan.alternatives) {
    const bool is_chosen = plan.chosen == a.kind;
    std::string line = std::string(is_chosen ? "* " : "  ") + fold_kind_name(a.kind) + ": " +
                       std::to_string(a.cost.inter_site_bytes()) + " bytes between sites (" +
                       std::to_string(a.cost.inter_site_read_bytes) + " read, " +
                       std::to_string(a.cost.inter_site_written_bytes) + " written), " +
                       std::to_string(a.cost.inside_site_bytes) + " inside, " +
                       std::to_string(a.cost.disk_bytes) + " on disks, " +
                       std::to_string(a.cost.copied_bytes) + " copied at the sites, " +
                       std::to_string(a.cost.operations) + " operations";
    if (!a.impossible.empty()) line += "; not now: " + a.impossible;
    if (a.kind == FoldKind::parity_delta && !plan.folded.empty() && !plan.leftovers.empty())
      line += "; " + std::to_string(plan.leftovers.size()) + " blocks do not fit and are merged";
    lines.push_back(std::move(line));
  }
  return lines;
}

PaperReads paper_update_reads(int k, int m, int t, const std::vector<Cell>& updated) {
  std::set<Cell> cells(updated.begin(), updated.end());
  std::set<int> rows, columns;
  for (const Cell& cell : cells) {
    rows.insert(cell.row);
    columns.insert(cell.column);
  }
  const uint64_t u = cells.size(), r = rows.size(), c = columns.size();
  PaperReads reads{.parity_update = 2 * u + r * m};
  if (m > 0) reads.reencode += r * k;
  if (t > 0) {
    reads.reencode += c * t + static_cast<uint64_t>(m) * t;
    reads.parity_update += c + m;
  }
  return reads;
}

}  // namespace datacloud
