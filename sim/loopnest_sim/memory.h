// The memory behind a Verilated chip's AXI4 ports, cycle by cycle.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "Vtop.h"

constexpr uint32_t kLine = 32;          // bytes of a beat
constexpr uint32_t kPageBits = 12;      // storage is allocated in pages
constexpr uint32_t kPage = 1u << kPageBits;
constexpr uint32_t kQueue = 1024;       // requests that the memory takes in before it answers
constexpr uint32_t kReorderWindow = 16; // requests among which the next answer is chosen
constexpr uint8_t kSlaveError = 2;
constexpr uint32_t kRooms = 16;         // ranges that writes may be confined to

// What Python sets; `MEMORY_FIELDS` in simulator.py has the same order.
struct Settings {
    uint64_t latency, reorder, seed, fill;
    uint64_t error_first, error_end, window_first, window_end;
    uint64_t waves_first, waves_last, threads;
    double bytes_per_cycle, stall;
};

// What Python reads; `STATE_FIELDS` in simulator.py has the same order.
struct State {
    uint64_t cycle, irq, lines_read, lines_written, bytes_written;
    uint64_t window_violations, window_address, window_write, window_cycle;
    uint64_t protocol_violations, protocol_rule, protocol_cycle;
    uint64_t stray_writes, stray_address, errors_answered;
};

// Numbers of the rules; `PROTOCOL_RULES` in simulator.py has the same order.
enum Rule : uint64_t {
    kReadHolds,
    kWriteAddressHolds,
    kWriteDataHolds,
    kBeatSize,
    kBurst,
    kLastBeat,
    kOtherPort,
};

class Random {
  public:
    explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ull + 0x2545f4914f6cdd1dull) {}
    uint32_t next() {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return static_cast<uint32_t>(state_ >> 32);
    }

  private:
    uint64_t state_;
};

// A queue of fixed capacity whose elements can be taken from the middle.
template <typename T> class Queue {
  public:
    explicit Queue(uint32_t capacity) : items_(capacity), mask_(capacity - 1) {}
    bool full() const { return size_ > mask_; }
    uint32_t size() const { return size_; }
    T& operator[](uint32_t i) { return items_[(head_ + i) & mask_]; }
    void push(const T& item) { (*this)[size_++] = item; }
    void clear() { size_ = 0; }
    T take(uint32_t i) {
        T item = (*this)[i];
        for (; i; --i) (*this)[i] = (*this)[i - 1];
        head_ = (head_ + 1) & mask_;
        --size_;
        return item;
    }

  private:
    std::vector<T> items_;
    uint32_t mask_, head_ = 0, size_ = 0;
};

class Storage {
  public:
    explicit Storage(uint8_t fill)
        : pages_(static_cast<uint8_t**>(calloc(1u << (32 - kPageBits), sizeof(uint8_t*)))) {
        memset(blank_, fill, kPage);
    }
    ~Storage() {
        for (uint32_t i = 0; i < 1u << (32 - kPageBits); ++i) free(pages_[i]);
        free(pages_);
    }
    const uint8_t* at(uint32_t address) const {
        const uint8_t* page = pages_[address >> kPageBits];
        return (page ? page : blank_) + (address & (kPage - 1));
    }
    uint8_t* touch(uint32_t address) {
        uint8_t*& page = pages_[address >> kPageBits];
        if (!page) {
            page = static_cast<uint8_t*>(malloc(kPage));
            memcpy(page, blank_, kPage);
        }
        return page + (address & (kPage - 1));
    }

  private:
    uint8_t** pages_;
    uint8_t blank_[kPage];
};

// Bytes that may pass: a beat needs kLine of them.
class Bandwidth {
  public:
    explicit Bandwidth(double rate) : rate_(rate < kLine ? rate : kLine) {}
    void cycle() {
        tokens_ += rate_;
        // what is left over of a beat counts for the next one, an idle time does not; a ready that
        // was decided a cycle before its transfer must not lose the cycle between
        if (tokens_ > kLine + 2 * rate_) tokens_ = kLine + 2 * rate_;
    }
    bool enough() const { return tokens_ >= kLine; }
    void spend() { tokens_ -= kLine; }

  private:
    double rate_, tokens_ = kLine;
};

struct Request {
    uint64_t due;
    uint32_t address, id, beats;
};
struct Beat {
    uint8_t data[kLine];
    uint32_t strobe;
    bool last;
};
struct Response {
    uint64_t due;
    uint32_t id;
    uint8_t code;
};

// The signals of a memory port. The chip has `m_axi`, or `m0_axi` and `m1_axi` (kPorts).
#if MEMORY_PORTS == 1
#define FIRST_PORT(name) m_axi_##name
#else
#define FIRST_PORT(name) m0_axi_##name
#endif
constexpr uint32_t kPorts = MEMORY_PORTS;

struct Bus {
    decltype(Vtop::FIRST_PORT(araddr)) araddr;
    decltype(Vtop::FIRST_PORT(arlen)) arlen;
    decltype(Vtop::FIRST_PORT(arsize)) arsize;
    decltype(Vtop::FIRST_PORT(arburst)) arburst;
    decltype(Vtop::FIRST_PORT(arid)) arid;
    decltype(Vtop::FIRST_PORT(arvalid)) arvalid;
    decltype(Vtop::FIRST_PORT(arready)) arready;
    decltype(Vtop::FIRST_PORT(rid)) rid;
    decltype(Vtop::FIRST_PORT(rdata)) rdata;
    decltype(Vtop::FIRST_PORT(rresp)) rresp;
    decltype(Vtop::FIRST_PORT(rlast)) rlast;
    decltype(Vtop::FIRST_PORT(rvalid)) rvalid;
    decltype(Vtop::FIRST_PORT(rready)) rready;
    decltype(Vtop::FIRST_PORT(awaddr)) awaddr;
    decltype(Vtop::FIRST_PORT(awlen)) awlen;
    decltype(Vtop::FIRST_PORT(awsize)) awsize;
    decltype(Vtop::FIRST_PORT(awburst)) awburst;
    decltype(Vtop::FIRST_PORT(awid)) awid;
    decltype(Vtop::FIRST_PORT(awvalid)) awvalid;
    decltype(Vtop::FIRST_PORT(awready)) awready;
    decltype(Vtop::FIRST_PORT(wdata)) wdata;
    decltype(Vtop::FIRST_PORT(wstrb)) wstrb;
    decltype(Vtop::FIRST_PORT(wlast)) wlast;
    decltype(Vtop::FIRST_PORT(wvalid)) wvalid;
    decltype(Vtop::FIRST_PORT(wready)) wready;
    decltype(Vtop::FIRST_PORT(bid)) bid;
    decltype(Vtop::FIRST_PORT(bresp)) bresp;
    decltype(Vtop::FIRST_PORT(bvalid)) bvalid;
    decltype(Vtop::FIRST_PORT(bready)) bready;
};

// The bus of that prefix.
#define BUS(top, prefix) Bus{ \
    (top).prefix##_araddr, (top).prefix##_arlen, (top).prefix##_arsize, (top).prefix##_arburst,   \
    (top).prefix##_arid, (top).prefix##_arvalid, (top).prefix##_arready, (top).prefix##_rid,      \
    (top).prefix##_rdata, (top).prefix##_rresp, (top).prefix##_rlast, (top).prefix##_rvalid,      \
    (top).prefix##_rready, (top).prefix##_awaddr, (top).prefix##_awlen, (top).prefix##_awsize,    \
    (top).prefix##_awburst, (top).prefix##_awid, (top).prefix##_awvalid,                          \
    (top).prefix##_awready, (top).prefix##_wdata, (top).prefix##_wstrb, (top).prefix##_wlast,     \
    (top).prefix##_wvalid, (top).prefix##_wready, (top).prefix##_bid, (top).prefix##_bresp,       \
    (top).prefix##_bvalid, (top).prefix##_bready}

// What all ports share: the contents, the faults to inject, and what was found.
class Contents {
  public:
    Contents(const Settings& settings)
        : settings(settings), storage(static_cast<uint8_t>(settings.fill)), random(settings.seed),
          stall_(static_cast<uint32_t>(settings.stall * 4294967295.0)) {}

    const Settings settings;
    State state{};
    Storage storage;
    Random random;
    uint32_t mute = 0;  // bit p: port p takes and answers nothing
    uint64_t failing_read = 0, failing_write = 0;

    bool stalls() { return stall_ && random.next() < stall_; }

    void confine(const uint64_t* limits, uint32_t count) {
        rooms_ = std::min(count, kRooms);
        std::copy(limits, limits + 2 * rooms_, limits_);
        confined_ = true;
        state.stray_writes = state.errors_answered = 0;
    }

    void broken(Rule rule) {
        if (state.protocol_violations++ == 0) {
            state.protocol_rule = rule;
            state.protocol_cycle = state.cycle;
        }
    }

    void touched(uint32_t address, bool write) {
        if (address >= settings.window_first && address + uint64_t{kLine} <= settings.window_end)
            return;
        if (state.window_violations++ == 0) {
            state.window_address = address;
            state.window_write = write;
            state.window_cycle = state.cycle;
        }
    }

    void stray(uint32_t address, uint32_t strobe) {
        for (uint32_t i = 0; confined_ && i < kLine; ++i) {
            if (!(strobe >> i & 1)) continue;
            bool inside = false;
            for (uint32_t r = 0; r < rooms_; ++r)
                inside |= address + i >= limits_[2 * r] && address + i < limits_[2 * r + 1];
            if (!inside && state.stray_writes++ == 0) state.stray_address = address + i;
        }
    }

    // Whether the next beat, to this address, is answered with an error.
    bool fails(uint32_t address, bool write) {
        bool error = address >= settings.error_first && address < settings.error_end;
        error |= write ? state.lines_written + 1 == failing_write
                       : state.lines_read + 1 == failing_read;
        state.errors_answered += error;
        return error;
    }

  private:
    uint32_t stall_, rooms_ = 0;
    uint64_t limits_[2 * kRooms];
    bool confined_ = false;
};

// A memory port: what it shows just before an edge decides the transfers, and what the memory sets
// reaches the chip with the edge.
class Port {
  public:
    Port(Contents& contents, const Bus& bus, uint32_t number)
        : contents_(contents), bus_(bus), number_(number),
          read_bandwidth_(contents.settings.bytes_per_cycle),
          write_bandwidth_(contents.settings.bytes_per_cycle), reads_(kQueue), writes_(kQueue),
          beats_(kQueue), responses_(kQueue) {}

    // Drop what is due, and answer nothing in the next cycle.
    void reset() {
        reads_.clear();
        writes_.clear();
        beats_.clear();
        responses_.clear();
        burst_ = Request{};
        write_error_ = false;
        bus_.arready = bus_.rvalid = bus_.awready = bus_.wready = bus_.bvalid = 0;
    }

    // Take what is transferred at the end of this cycle.
    void take() {
        read_bandwidth_.cycle();
        write_bandwidth_.cycle();
        read_taken_ = bus_.rvalid && bus_.rready;
        response_taken_ = bus_.bvalid && bus_.bready;
        read_waits_ = bus_.arvalid && !bus_.arready;
        write_waits_ = bus_.awvalid && !bus_.awready;
        data_waits_ = bus_.wvalid && !bus_.wready;
        Contents& c = contents_;
        if (bus_.arvalid && bus_.arready) {
            check_request(bus_.araddr, bus_.arsize, bus_.arburst);
            // without some spread there would be one answer at a time to choose from
            const uint32_t late = c.settings.reorder ? c.random.next() % kReorderWindow : 0;
            reads_.push({c.state.cycle + c.settings.latency + late, bus_.araddr & ~(kLine - 1),
                         bus_.arid, bus_.arlen + 1u});
        }
        if (bus_.awvalid && bus_.awready) {
            check_request(bus_.awaddr, bus_.awsize, bus_.awburst);
            writes_.push({0, bus_.awaddr & ~(kLine - 1), bus_.awid, bus_.awlen + 1u});
        }
        if (bus_.wvalid && bus_.wready) {
            beats_.push(shown_beat());
            write_bandwidth_.spend();
        }
        read_before_ = {0, bus_.araddr, bus_.arid, bus_.arlen};
        write_before_ = {0, bus_.awaddr, bus_.awid, bus_.awlen};
        if (data_waits_) data_before_ = shown_beat();
    }

    // Set the next cycle's inputs.
    void answer() {
        store();
        if (read_taken_ || !bus_.rvalid) next_read();
        if (response_taken_ || !bus_.bvalid) next_response();
        Contents& c = contents_;
        bus_.arready = !mute() && !reads_.full() && !c.stalls();
        bus_.awready = !mute() && !writes_.full() && !responses_.full() && !c.stalls();
        bus_.wready = !mute() && !beats_.full() && write_bandwidth_.enough() && !c.stalls();
    }

    // Check, after the edge, that what was offered and not taken is offered still.
    void check() {
        const Request& read = read_before_;
        if (read_waits_ && !(bus_.arvalid && bus_.araddr == read.address && bus_.arid == read.id &&
                             bus_.arlen == read.beats))
            contents_.broken(kReadHolds);
        const Request& write = write_before_;
        if (write_waits_ && !(bus_.awvalid && bus_.awaddr == write.address &&
                              bus_.awid == write.id && bus_.awlen == write.beats))
            contents_.broken(kWriteAddressHolds);
        if (data_waits_ && !(bus_.wvalid && bus_.wstrb == data_before_.strobe &&
                             !memcmp(&bus_.wdata, data_before_.data, kLine)))
            contents_.broken(kWriteDataHolds);
    }

  private:
    bool mute() const { return contents_.mute >> number_ & 1; }

    Beat shown_beat() const {
        Beat beat;
        memcpy(beat.data, &bus_.wdata, kLine);
        beat.strobe = bus_.wstrb;
        beat.last = bus_.wlast;
        return beat;
    }

    void check_request(uint32_t address, uint32_t size, uint32_t burst) {
        if (size != 5) contents_.broken(kBeatSize);
        if (burst != 1) contents_.broken(kBurst);
        if (address / kLine % kPorts != number_) contents_.broken(kOtherPort);
    }

    // Do the writes that have both address and data.
    void store() {
        State& state = contents_.state;
        while (writes_.size() && beats_.size() && !responses_.full()) {
            Request& request = writes_[0];
            const Beat beat = beats_.take(0);
            contents_.touched(request.address, true);
            contents_.stray(request.address, beat.strobe);
            const bool error = contents_.fails(request.address, true);
            write_error_ |= error;
            if (!error) {
                uint8_t* line = contents_.storage.touch(request.address);
                for (uint32_t i = 0; i < kLine; ++i)
                    if (beat.strobe >> i & 1) line[i] = beat.data[i];
            }
            state.bytes_written += __builtin_popcount(beat.strobe);
            ++state.lines_written;
            request.address += kLine;
            if (beat.last != (--request.beats == 0)) contents_.broken(kLastBeat);
            if (request.beats) continue;
            responses_.push({state.cycle + contents_.settings.latency, request.id,
                             write_error_ ? kSlaveError : uint8_t{0}});
            write_error_ = false;
            writes_.take(0);
        }
    }

    // Put the next read beat on the bus, if one is due.
    void next_read() {
        bus_.rvalid = 0;
        if (mute()) return;
        if (!burst_.beats) {
            const uint32_t chosen = choose();
            if (chosen == reads_.size() || contents_.stalls()) return;
            burst_ = reads_.take(chosen);
        } else if (contents_.stalls()) {
            return;
        }
        if (!read_bandwidth_.enough()) return;
        read_bandwidth_.spend();
        contents_.touched(burst_.address, false);
        memcpy(&bus_.rdata, contents_.storage.at(burst_.address), kLine);
        bus_.rid = burst_.id;
        bus_.rresp = contents_.fails(burst_.address, false) ? kSlaveError : 0;
        bus_.rlast = burst_.beats == 1;
        bus_.rvalid = 1;
        burst_.address += kLine;
        --burst_.beats;
        ++contents_.state.lines_read;
    }

    // The place of the request to answer next, or the queue's size if none is due.
    uint32_t choose() {
        const uint32_t window = contents_.settings.reorder ? kReorderWindow : 1;
        const uint32_t reach = std::min(window, reads_.size());
        uint32_t chosen = reads_.size(), candidates = 0;
        for (uint32_t i = 0; i < reach; ++i) {
            if (reads_[i].due > contents_.state.cycle) continue;
            bool first = true;  // those of one identifier stay in order
            for (uint32_t j = 0; j < i; ++j) first &= reads_[j].id != reads_[i].id;
            if (!first) continue;
            ++candidates;
            if (candidates == 1 || contents_.random.next() % candidates == 0) chosen = i;
        }
        return chosen;
    }

    void next_response() {
        bus_.bvalid = 0;
        const bool due = responses_.size() && responses_[0].due <= contents_.state.cycle;
        if (mute() || !due || contents_.stalls()) return;
        const Response response = responses_.take(0);
        bus_.bid = response.id;
        bus_.bresp = response.code;
        bus_.bvalid = 1;
    }

    Contents& contents_;
    const Bus bus_;
    const uint32_t number_;
    Bandwidth read_bandwidth_, write_bandwidth_;
    Queue<Request> reads_, writes_;
    Queue<Beat> beats_;
    Queue<Response> responses_;
    Request burst_{};
    bool write_error_ = false;
    // what the port showed before the edge
    bool read_taken_, response_taken_, read_waits_, write_waits_, data_waits_;
    Request read_before_, write_before_;
    Beat data_before_;
};
