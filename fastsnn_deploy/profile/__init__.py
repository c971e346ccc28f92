"""What a network does and costs: exact counts of a run, hardware profiles, energy with the band of every constant."""

from fastsnn_deploy.profile.ann import AnnCounts as AnnCounts
from fastsnn_deploy.profile.ann import AnnLayerCounts as AnnLayerCounts
from fastsnn_deploy.profile.ann import ann_counts as ann_counts
from fastsnn_deploy.profile.counting import count as count
from fastsnn_deploy.profile.counts import ConnectionCounts as ConnectionCounts
from fastsnn_deploy.profile.counts import Counts as Counts
from fastsnn_deploy.profile.counts import LayerCounts as LayerCounts
from fastsnn_deploy.profile.energy import AnnEnergy as AnnEnergy
from fastsnn_deploy.profile.energy import Band as Band
from fastsnn_deploy.profile.energy import Energy as Energy
from fastsnn_deploy.profile.energy import LayerEnergy as LayerEnergy
from fastsnn_deploy.profile.energy import Traffic as Traffic
from fastsnn_deploy.profile.energy import estimate as estimate
from fastsnn_deploy.profile.energy import estimate_ann as estimate_ann
from fastsnn_deploy.profile.hardware import Constant as Constant
from fastsnn_deploy.profile.hardware import Hardware as Hardware
from fastsnn_deploy.profile.hardware import available as available
from fastsnn_deploy.profile.hardware import load_hardware as load_hardware
from fastsnn_deploy.profile.result import Profile as Profile
from fastsnn_deploy.profile.result import priced as priced
from fastsnn_deploy.profile.result import profile as profile
