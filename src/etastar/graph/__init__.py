"""Capture of the executed graph, effective depth, and the roles of parameters."""

from __future__ import annotations

from etastar.graph.capture import capture_graph, effective_depth
from etastar.graph.dag import Graph
from etastar.graph.node import Node

__all__ = ["Graph", "Node", "capture_graph", "effective_depth"]
