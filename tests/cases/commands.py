"""A file of toys in a folder of its own, and `initfast profile` of them."""

from initfast.cli.main import main

NETS = """
import sys, torch
from torch import nn

print("printed by the user")

class Block(nn.Module):
    def __init__(self, std):
        super().__init__()
        self.fc = nn.Linear(64, 64)
        nn.init.normal_(self.fc.weight, std=std)
    def forward(self, x):
        return torch.relu(self.fc(x))

def loud():
    return nn.Sequential(*[Block(1.0) for _ in range(12)])

def sound():
    return nn.Sequential(*[Block((2 / 64) ** 0.5) for _ in range(12)])

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 10)
    def forward(self, x, y=0):
        return self.fc(x + y)

class Wide(Small):
    def __init__(self, width, depth): ...

class Plain: ...

made = Small()
number = 3

def words(): return nn.Embedding(100, 8)
def image(): return nn.Conv2d(3, 4, 3)
def fails(): raise ValueError("no\\nluck")
def leaves(): sys.exit(0)
def nothing(): return {}
def make_input(): return {"x": torch.ones(4, 64), "y": torch.ones(64)}
def loss(output): return output.square().sum()
"""


def profile(*arguments):
    return main(["profile", *arguments, "--input", "16,64"])
