"""Names of signals in two texts of a design."""

from loopnest_sim.renamed import Renamed

TEXT = """
module pe(rst, i, clk);
  input rst;
  wire [7:0] banks;
  reg [3:0] \\$7  = 4'h0;
  \\pe.banks$5  \\banks$5  (
    .rst(rst)
  );
endmodule

module \\pe.banks$5 (rst, clk);
  input rst;
  wire rst;
  reg [7:0] _0_;
  wire [7:0] \\read.data ;
  reg held = 1'h0;
  reg [3:0] \\held$3  = 4'h0;
  wire only;
  assign \\read.data  = _0_;
endmodule
"""

OTHER = """
module \\chip.pe (rst, hold, i, clk);
  input rst;
  input hold;
  wire [7:0] banks;
  \\chip.pe.shared  \\banks$6  (
    .rst(rst)
  );
endmodule

module \\chip.pe.shared (rst, hold, clk);
  input rst;
  input hold;
  reg [7:0] _1_;
  wire [7:0] \\read.data ;
  reg held = 1'h0;
  reg [3:0] \\held$4  = 4'h0;
  wire \\only ;
  wire \\only$9 ;
  assign \\read.data  = _1_;
endmodule
"""


def test_names() -> None:
    found = Renamed(TEXT, "pe", OTHER, "chip.pe")
    assert found.find("", "banks") == ("", "banks")
    assert found.find("", "$7") is None  # it has no name
    assert found.find("banks$5", "held") == ("banks$6", "held")
    assert found.find("banks$5", "held$3") == ("banks$6", "held$4")
    # a memory's output register is numbered by the Verilog writer
    assert found.find("banks$5", "_0_") == ("banks$6", "read.data")
    assert found.find("banks$5", "only") is None  # one of two
    assert found.find("banks$5", "missing") is None
    assert found.find("missing", "held") is None
